import type { FastifyError, FastifyInstance, FastifyRequest } from 'fastify';
import type { ErrorCode } from '../kernel/codes.ts';
import { PatchbayError, toPatchbayError } from '../kernel/errors.ts';
import type { Logger } from '../observability/logger.ts';

/**
 * Answers what fails before or outside a handler, in the shape of the path: GraphQL's `errors` on the GraphQL path,
 * `error` elsewhere. Both carry the registry's code, a fix and the request id.
 */
export function answerErrors(app: FastifyInstance, graphqlPath: string, log: Logger): void {
  app.setErrorHandler<FastifyError>((thrown, request, reply) => {
    const error = fromHttp(thrown);
    const status = error.code === 'INTERNAL' ? 500 : (thrown.statusCode ?? error.status);
    if (error.code === 'INTERNAL') {
      log.error({ err: error.cause ?? thrown, requestId: request.id }, 'An HTTP request failed unexpectedly');
    }
    return reply
      .code(status)
      .type('application/json; charset=utf-8')
      .send(body(error, request, graphqlPath));
  });
  app.setNotFoundHandler((request, reply) => {
    const wrongMethod = pathOf(request) === graphqlPath;
    const error = wrongMethod
      ? new PatchbayError('BAD_INPUT', 'GraphQL is served to GET and POST.')
      : new PatchbayError('NOT_FOUND', 'There is nothing at this address.', { fix: 'Check the URL.' });
    if (wrongMethod) reply.header('allow', 'GET, POST');
    return reply.code(wrongMethod ? 405 : 404).send(body(error, request, graphqlPath));
  });
}

function body(error: PatchbayError, request: FastifyRequest, graphqlPath: string): object {
  const { code, message, ...rest } = error.toPublic();
  if (pathOf(request) !== graphqlPath) return { error: { code, message, ...rest, requestId: request.id } };
  return { errors: [{ message, extensions: { code, ...rest, requestId: request.id } }] };
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0] ?? '';
}

/** Fastify's own refusals are the client's mistakes; their texts are fastify's and safe to show. */
function fromHttp(thrown: FastifyError): PatchbayError {
  if (thrown instanceof PatchbayError) return thrown;
  const status = thrown.statusCode ?? 500;
  if (status < 400 || status >= 500) return toPatchbayError(thrown);
  const code: ErrorCode = status === 413 ? 'REQUEST_TOO_LARGE' : 'BAD_INPUT';
  const fix = status === 415 ? 'Send JSON with `Content-Type: application/json`.' : undefined;
  return new PatchbayError(code, thrown.message, fix === undefined ? {} : { fix });
}
