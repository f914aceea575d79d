import { createClient } from 'graphql-ws';
import WebSocket from 'ws';
import { z } from 'zod';

const tokenSchema = z.object({ id: z.number() });

const eventSchema = z.object({
  infer: z.discriminatedUnion('__typename', [
    z.object({ __typename: z.literal('InferStarted'), requestId: z.string(), replayed: z.boolean() }),
    z.object({
      __typename: z.literal('InferChunk'),
      sequence: z.number(),
      text: z.string(),
      tokens: z.array(tokenSchema),
    }),
    z.object({
      __typename: z.literal('InferFinished'),
      requestId: z.string(),
      finishReason: z.string(),
      replayed: z.boolean(),
      usage: z.object({ promptTokens: z.number(), completionTokens: z.number() }),
      error: z.object({ code: z.string() }).nullable(),
    }),
  ]),
});

/** An event of an inference as a client receives it. */
export type ReceivedEvent = z.infer<typeof eventSchema>['infer'];

const INFER = `subscription Infer($input: InferInput!) {
  infer(input: $input) {
    __typename
    ... on InferStarted { requestId replayed }
    ... on InferChunk { sequence text tokens { id } }
    ... on InferFinished {
      requestId finishReason replayed usage { promptTokens completionTokens } error { code }
    }
  }
}`;

/** A websocket that never reconnects: what it received is what was delivered. */
export interface InferenceSocket {
  /** Events of one inference, until its last one or the end of the socket. */
  infer(input: Readonly<Record<string, unknown>>): AsyncGenerator<ReceivedEvent, void>;
  close(): Promise<void>;
}

export function openSocket(graphqlUrl: string, key: string): InferenceSocket {
  const client = createClient({
    url: graphqlUrl.replace(/^http/, 'ws'),
    webSocketImpl: WebSocket,
    lazy: true,
    retryAttempts: 0,
    connectionParams: { authorization: `Bearer ${key}` },
    onNonLazyError: () => {},
  });
  return {
    async *infer(input) {
      try {
        for await (const result of client.iterate({ query: INFER, variables: { input } })) {
          if (result.errors !== undefined) throw new Error(JSON.stringify(result.errors));
          yield eventSchema.parse(result.data).infer;
        }
      } catch (error) {
        // A close event is how a killed server looks; anything else is a failure of the test.
        if (error instanceof Error || Array.isArray(error)) throw error;
      }
    },
    close: async () => client.dispose(),
  };
}

const responseSchema = z.object({ data: z.unknown(), errors: z.array(z.unknown()).optional() });

/** One operation over HTTP. */
export async function graphql<T>(
  graphqlUrl: string,
  key: string,
  query: string,
  variables: Readonly<Record<string, unknown>>,
  shape: z.ZodType<T>,
): Promise<T> {
  const response = await fetch(graphqlUrl, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
    body: JSON.stringify({ query, variables }),
  });
  const body = responseSchema.parse(await response.json());
  if (body.errors !== undefined) throw new Error(JSON.stringify(body.errors));
  return shape.parse(body.data);
}
