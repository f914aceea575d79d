import { Environment, Interpreter, Template } from '@huggingface/jinja';
import { PatchbayError } from '../../kernel/errors.ts';
import type { SpecialName } from './added-tokens.ts';
import { invalid, isAbsent, isJson, show, type TokenizerFiles } from './files.ts';
import { strftime } from './strftime.ts';

/** A checkpoint's chat templates by name; a single one is called `default`. */
export type ChatTemplates = ReadonlyMap<string, string>;

/** One message of a conversation. */
export interface ChatMessage {
  /** One of {@link CHAT_ROLES}. */
  readonly role: string;
  readonly content: string;
}

/** Roles that are accepted; a template would print any other text verbatim into its headers. */
export const CHAT_ROLES = ['system', 'user', 'assistant', 'tool'] as const;

/** Texts of the special tokens, by the names that templates use. */
export type Specials = Readonly<Partial<Record<SpecialName, string>>>;

/** Options of {@link renderChat}. */
export interface RenderOptions {
  /** Ends the text with the header of the assistant's turn. */
  readonly addGenerationPrompt: boolean;
  /** What `strftime_now` in a template reads, in UTC; default: now. */
  readonly now?: Date;
}

const NO_TEMPLATE_FIX =
  'Send a raw prompt, or add a chat_template to tokenizer_config.json or a chat_template.jinja.';

/** Reads `chat_template.jinja`, else `chat_template` of `tokenizer_config.json` (a text or a list of named texts). */
export function readChatTemplates(files: TokenizerFiles): ChatTemplates | null {
  if (files.chatTemplate !== null) return new Map([['default', files.chatTemplate]]);
  const value = files.tokenizerConfig?.['chat_template'];
  if (isAbsent(value)) return null;
  if (typeof value === 'string') return new Map([['default', value]]);
  const file = 'tokenizer_config.json';
  if (!Array.isArray(value)) {
    throw invalid(file, 'chat_template', `expected a text or a list, found ${show(value)}`);
  }
  const templates = new Map<string, string>();
  for (const [index, item] of value.entries()) {
    const name: unknown = isJson(item) ? item['name'] : undefined;
    const template: unknown = isJson(item) ? item['template'] : undefined;
    if (typeof name !== 'string' || typeof template !== 'string') {
      throw invalid(file, `chat_template[${index}]`, `expected name and template, found ${show(item)}`);
    }
    templates.set(name, template);
  }
  return templates;
}

/** Chooses a template: the named one, else `default`, else the only one. */
export function selectTemplate(templates: ChatTemplates | null, name?: string): string {
  if (templates === null || templates.size === 0) {
    throw new PatchbayError('CHAT_TEMPLATE', 'The backbone has no chat template.', { fix: NO_TEMPLATE_FIX });
  }
  const [only] = templates.values();
  const found =
    templates.get(name ?? 'default') ?? (name === undefined && templates.size === 1 ? only : undefined);
  if (found === undefined) {
    const names = [...templates.keys()].join(', ');
    throw new PatchbayError(
      'CHAT_TEMPLATE',
      `The backbone has no chat template named ${show(name ?? 'default')}.`,
      {
        fix: `Name one of: ${names}.`,
      },
    );
  }
  return found;
}

/**
 * Renders a conversation to text as transformers' `apply_chat_template(tokenize=False)` does: `tools` and `documents`
 * are none, `raise_exception` and `strftime_now` exist. The template is the operator's and trusted. The text must not
 * be encoded as it is: special tokens in contents would count. `ChatEncoder` takes care of that.
 */
export function renderChat(
  messages: readonly ChatMessage[],
  template: string,
  specials: Specials,
  options: RenderOptions,
): string {
  checkMessages(messages);
  const environment = new Environment();
  const globals: Readonly<Record<string, unknown>> = {
    true: true,
    false: false,
    none: null,
    True: true,
    False: false,
    None: null,
    range,
    raise_exception: refuse,
    strftime_now: (format: unknown) => strftime(options.now ?? new Date(), String(format)),
    ...specials,
    messages: messages.map(({ role, content }) => ({ role, content })),
    tools: null,
    documents: null,
    add_generation_prompt: options.addGenerationPrompt,
  };
  for (const [name, value] of Object.entries(globals)) environment.set(name, value);
  const program = compile(template);
  let result: unknown;
  try {
    result = new Interpreter(environment).run(program.parsed).value;
  } catch (cause) {
    if (cause instanceof TemplateRefusal) {
      throw new PatchbayError('CHAT_TEMPLATE', `The chat template refuses the messages: ${cause.message}`, {
        cause,
      });
    }
    throw new PatchbayError('CHAT_TEMPLATE', 'The chat template failed on these messages.', { cause });
  }
  if (typeof result === 'string') return result;
  throw new PatchbayError('CHAT_TEMPLATE', 'The chat template gave no text.', { fix: NO_TEMPLATE_FIX });
}

/** What a template raised by itself; its text is meant for the caller. */
class TemplateRefusal extends Error {}

function refuse(message: unknown): never {
  throw new TemplateRefusal(String(message));
}

function checkMessages(messages: readonly ChatMessage[]): void {
  if (messages.length === 0) throw new PatchbayError('PROMPT_EMPTY', 'There are no messages.');
  for (const [index, { role, content }] of messages.entries()) {
    if (!CHAT_ROLES.some((known) => known === role)) {
      throw new PatchbayError('BAD_INPUT', `The role ${show(role)} is not one of ${CHAT_ROLES.join(', ')}.`, {
        field: `messages[${index}].role`,
      });
    }
    if (typeof content !== 'string') {
      throw new PatchbayError('BAD_INPUT', 'The content of a message must be a text.', {
        field: `messages[${index}].content`,
      });
    }
  }
}

const compiled = new Map<string, Template>();

/** Templates are few and come from checkpoints, so the parsed forms are kept. */
function compile(source: string): Template {
  const known = compiled.get(source);
  if (known !== undefined) return known;
  let template: Template;
  try {
    template = new Template(source);
  } catch (cause) {
    throw new PatchbayError('CHAT_TEMPLATE', 'The chat template of the backbone cannot be parsed.', {
      fix: 'Send a raw prompt; tell the operator that the chat template uses unsupported syntax.',
      cause,
    });
  }
  compiled.set(source, template);
  return template;
}

function range(start: number, stop?: number, step = 1): number[] {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  if (!Number.isInteger(from) || !Number.isInteger(to) || !Number.isInteger(step) || step === 0) {
    throw new Error('range() takes whole numbers and a step other than zero');
  }
  const values: number[] = [];
  for (let value = from; step > 0 ? value < to : value > to; value += step) values.push(value);
  return values;
}
