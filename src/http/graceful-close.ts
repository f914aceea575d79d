import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';

/**
 * Makes closing take a bounded time. Fastify closes idle connections, but Node does not count as idle one that has
 * never carried a request, such as those that browsers and fetch open ahead of need; it would be waited for until
 * its keep-alive runs out.
 *
 * @returns closes the server: requests that are running may finish for `graceMs`, then their connections are cut.
 */
export function gracefulClose(app: FastifyInstance, graceMs: number): () => Promise<void> {
  const unused = new Set<Socket>();
  const isUsed = (request: IncomingMessage): void => {
    unused.delete(request.socket);
  };
  app.server.on('connection', (socket: Socket) => {
    unused.add(socket);
    socket.once('close', () => unused.delete(socket));
  });
  app.server.on('request', isUsed);
  app.server.on('upgrade', isUsed);
  return async () => {
    const closed = app.close();
    for (const socket of unused) socket.destroy();
    const cut = setTimeout(() => app.server.closeAllConnections(), graceMs);
    await closed;
    clearTimeout(cut);
  };
}
