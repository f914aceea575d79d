import { createServer, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import { atFileEnd } from '../../kit/file-end.ts';

/**
 * What becomes of a call: answered; done by the node, and the connection broken before the answer; broken before the node knows
 * of it; answered as a gateway does whose node is gone; never answered.
 */
type Fate = 'ANSWERED' | 'DONE_AND_BROKEN' | 'BROKEN' | 'GATEWAY_ERROR' | 'SILENCE';

const call = z.object({ id: z.int(), method: z.string(), params: z.array(z.unknown()) });

/** A JSON-RPC between a program and a node, which fails as it is told. */
export class FaultyRpc {
  readonly url: string;
  /** Decides what becomes of each call. */
  fate: (method: string) => Fate = () => 'ANSWERED';
  /** What is answered in the node's place, if anything is; it may take its time. */
  lie: (method: string, params: readonly unknown[]) => unknown = () => undefined;
  readonly methods: string[] = [];

  private constructor(url: string) {
    this.url = url;
  }

  static async before(nodeUrl: string): Promise<FaultyRpc> {
    const holder: { rpc: FaultyRpc | null } = { rpc: null };
    const server = createServer(async (request: IncomingMessage, response) => {
      const body = await text(request);
      const { id, method, params } = call.parse(JSON.parse(body));
      holder.rpc?.methods.push(method);
      const fate = holder.rpc?.fate(method) ?? 'ANSWERED';
      if (fate === 'BROKEN') return response.destroy();
      if (fate === 'SILENCE') return response;
      if (fate === 'GATEWAY_ERROR') return response.writeHead(502).end('<html>Bad gateway</html>');
      const headers = { 'content-type': 'application/json' };
      const result = await holder.rpc?.lie(method, params);
      if (result !== undefined) {
        return response.writeHead(200, headers).end(JSON.stringify({ jsonrpc: '2.0', id, result }));
      }
      const answer = await (await fetch(nodeUrl, { method: 'POST', body, headers })).text();
      if (fate === 'DONE_AND_BROKEN') return response.destroy();
      return response.writeHead(200, headers).end(answer);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = z.object({ port: z.int() }).parse(server.address());
    atFileEnd(async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    });
    holder.rpc = new FaultyRpc(`http://127.0.0.1:${address.port}`);
    return holder.rpc;
  }
}
