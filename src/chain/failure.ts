import { type Interface, isError } from 'ethers';
import { z } from 'zod';
import { PatchbayError } from '../kernel/errors.ts';

/** The custom error that a contract refused something with. */
export interface Revert {
  readonly name: string;
  /** Arguments by name, as text. */
  readonly args: Readonly<Record<string, string>>;
}

/** A contract refused a call or a transaction. */
export class RevertError extends PatchbayError {
  /** Null when the contract gave no reason that is known here. */
  readonly revert: Revert | null;

  constructor(revert: Revert | null, cause: unknown) {
    super('CHAIN_REVERTED', `The contract refused it: ${describe(revert)}.`, {
      ...(revert === null ? {} : { meta: { ...revert.args, revert: revert.name } }),
      cause,
    });
    this.revert = revert;
  }
}

function describe(revert: Revert | null): string {
  if (revert === null) return 'it gave no reason';
  const args = Object.entries(revert.args).map(([name, value]) => `${name} ${value}`);
  return args.length === 0 ? revert.name : `${revert.name} (${args.join(', ')})`;
}

/**
 * Turns what ethers throws into an error of ours. What is not known is passed on as it is.
 * @param errors knows the custom errors of the contract that was asked.
 */
export function chainFailure(thrown: unknown, errors?: Interface): unknown {
  if (isError(thrown, 'CALL_EXCEPTION')) return new RevertError(readRevert(thrown.data, errors), thrown);
  if (isError(thrown, 'INSUFFICIENT_FUNDS')) {
    return new PatchbayError('CHAIN_GAS_EMPTY', 'The account cannot pay for the transaction.', {
      cause: thrown,
    });
  }
  if (isError(thrown, 'BAD_DATA')) {
    return new PatchbayError('CHAIN_CODE_DIFFERS', 'What is at the address does not answer as it should.', {
      cause: thrown,
    });
  }
  if (isConnectionFailure(thrown)) {
    return new PatchbayError('CHAIN_UNREACHABLE', 'The RPC does not answer, or not as the RPC of a chain.', {
      cause: thrown,
    });
  }
  if (isError(thrown, 'UNKNOWN_ERROR') || isError(thrown, 'NONCE_EXPIRED')) return nodeError(thrown);
  if (isError(thrown, 'REPLACEMENT_UNDERPRICED')) return nodeError(thrown);
  return thrown;
}

/** An answer of the node that is an error of its own, in its words where it has any. */
function nodeError(thrown: Error): PatchbayError {
  const answer = nodeAnswer.safeParse(thrown);
  const words = answer.success ? answer.data.error.message : 'it gave no reason';
  return new PatchbayError('CHAIN_NODE_ERROR', `The node answered with an error: ${words}.`, {
    cause: thrown,
  });
}

const nodeAnswer = z.object({ error: z.object({ message: z.string() }) });

/** Codes of Node for a connection that did not come about, or broke. */
const CONNECTION_CODES = ['ECONNREFUSED', 'ECONNRESET', 'ENOTFOUND', 'EAI_AGAIN', 'ETIMEDOUT', 'EPIPE'];

function isConnectionFailure(thrown: unknown): boolean {
  if (isError(thrown, 'NETWORK_ERROR') || isError(thrown, 'TIMEOUT')) return true;
  // An answer that is no JSON-RPC, such as a page of a proxy.
  if (isError(thrown, 'SERVER_ERROR') || isError(thrown, 'UNSUPPORTED_OPERATION')) return true;
  if (thrown instanceof SyntaxError) return true;
  // A number that is none, or that is larger than numbers of its kind are; and what does not have the form that it should.
  if (isError(thrown, 'INVALID_ARGUMENT') || isError(thrown, 'NUMERIC_FAULT')) return true;
  if (thrown instanceof z.ZodError) return true;
  return thrown instanceof Error && 'code' in thrown && CONNECTION_CODES.includes(String(thrown.code));
}

function readRevert(data: string | null, errors: Interface | undefined): Revert | null {
  const parsed = data === null || errors === undefined ? null : errors.parseError(data);
  if (parsed === null) return null;
  const args = parsed.fragment.inputs.map((input, index) => [input.name, String(parsed.args[index])]);
  return { name: parsed.name, args: Object.fromEntries(args) };
}
