import { Command, CommanderError, Option } from 'commander';
import { EXIT, EXIT_TABLE } from './exit-codes.ts';
import { type CliIo, runAction } from './io.ts';
import { bits, collect, connected, decimal, json, oneOf, wholeNumber, wholeNumbers } from './options.ts';
import { WORKLOADS } from './ports.ts';
import { addChain, addClaim } from './program-chain.ts';
import { addEconomics, addExport, addInvoices, addLedger, addReconcile } from './program-money.ts';
import { addAudit, addBundle, addProofKey, addVerify } from './program-proofs.ts';

/** Runs a command line and returns its exit code; never ends the process itself. */
export async function runCli(argv: readonly string[], io: CliIo): Promise<number> {
  let code: number = EXIT.ok;
  const program = buildProgram(io, (result) => {
    code = result;
  });
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return code;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  }
}

/** The whole command line. Actions import what they need when they run, so that `--help` is quick. */
function buildProgram(io: CliIo, finish: (code: number) => void): Command {
  /** Wraps an action: errors become text and an exit code. */
  const run = (json: boolean, action: () => Promise<number>): Promise<void> =>
    runAction(io, json, action).then(finish);
  const program = new Command('patchbay')
    .description('One backbone model, thousands of LoRA adapters: serve them, feed them, ask them.')
    .configureOutput({
      writeOut: io.out,
      writeErr: io.err,
      getOutHelpWidth: () => io.columns,
      getErrHelpWidth: () => io.columns,
    })
    .exitOverride()
    .showSuggestionAfterError()
    .showHelpAfterError('(patchbay --help shows how)')
    .helpCommand('help [command]', 'show how a command is used')
    .helpOption('-h, --help', 'show this')
    .addHelpText('after', () => mainHelp());

  addServer(program, io, run);
  addProofKey(program, io, run);
  addBackbone(program, io, run);
  addAdapter(program, io, run);
  addInference(program, io, run);
  addEngine(program, io, run);
  addLedger(program, io, run);
  addInvoices(program, io, run);
  addReconcile(program, io, run);
  addEconomics(program, io, run);
  addExport(program, io, run);
  addVerify(program, io, run);
  addAudit(program, io, run);
  addBundle(program, io, run);
  addChain(program, io, run);
  addClaim(program, io, run);
  return program;
}

/** Runs the action of a command. */
export type Run = (json: boolean, action: () => Promise<number>) => Promise<void>;

function mainHelp(): string {
  const codes = EXIT_TABLE.map(([code, meaning]) => `  ${String(code).padEnd(4)}${meaning}`).join('\n');
  return `
Examples:
  npx patchbay serve
  npx patchbay adapter push starter/adapters/reverse --name backwards --wait
  npx patchbay infer --adapter backwards --message "jungle bridge garden zebra"
  npx patchbay run-batch --backbone DIR --input in.jsonl --output out.jsonl

Exit codes:
${codes}

Settings come from environment variables: \`patchbay config\` lists them.
Results go to stdout, progress and errors to stderr.`;
}

function addServer(program: Command, io: CliIo, run: Run): void {
  program
    .command('serve')
    .description('start the server; `npm start` does the same')
    .option('--host <address>', 'address to listen on (PATCHBAY_HOST)')
    .option('--port <number>', 'port to listen on, 0 for a free one (PATCHBAY_PORT)')
    .option('--data-dir <folder>', 'data folder (PATCHBAY_DATA_DIR)')
    .option('--backbone <folder>', 'checkpoint folder or `starter` (PATCHBAY_BACKBONE)')
    .addOption(
      new Option(
        '--chain [port]',
        'start a local chain as well, with contracts on it, and use it; 0 for a free port',
      )
        .argParser(wholeNumber(0, 65_535))
        .preset('8545'),
    )
    .addOption(json('print the start report as one line of JSON'))
    .action((flags) => run(flags.json, async () => (await import('./commands/serve.ts')).serve(io, flags)));
  program
    .command('config')
    .description('show the effective configuration and where each value comes from; secrets are masked')
    .addOption(json())
    .action((flags) =>
      run(flags.json, async () => (await import('./commands/config.ts')).showConfig(io, flags)),
    );
  program
    .command('key')
    .description('print a key that the data folder keeps, for use in a shell')
    .argument('[which]', '`demo` or `operator`', oneOf(['demo', 'operator']), 'demo')
    .addOption(json())
    .addHelpText('after', '\nExample:\n  curl -H "authorization: Bearer $(npx patchbay key)" …')
    .action((which, flags) =>
      run(flags.json, async () => (await import('./commands/key.ts')).showKey(io, which, flags)),
    );
  program
    .command('operator-key')
    .description('make an operator key that comes from no other key, for a second person, and print it')
    .argument('<name>', 'name of the key, for people')
    .option('--scope <scope>', 'what it may do; repeat it for several; without it, everything', collect, [])
    .addOption(json())
    .addHelpText(
      'after',
      '\nExample:\n  npx patchbay operator-key "Grace, who approves payouts" --scope payouts:write',
    )
    .action((name, flags) =>
      run(flags.json, async () =>
        (await import('./commands/operator-key.ts')).issueOperatorKey(io, name, flags),
      ),
    );
}

function addBackbone(program: Command, io: CliIo, run: Run): void {
  const backbone = program.command('backbone').description('import and list backbones');
  backbone
    .command('import')
    .description('turn a Hugging Face checkpoint folder into a backbone that many adapters share')
    .argument('<dir>', 'folder with config.json, *.safetensors and tokenizer.json')
    .addOption(bits())
    .addOption(json())
    .addHelpText(
      'after',
      '\nFamilies: Llama, Mistral, Qwen2 / Qwen2.5, Qwen3. Weights: F32, F16, BF16, also sharded.',
    )
    .action((dir, flags) =>
      run(flags.json, async () => (await import('./commands/backbone.ts')).backboneImport(io, dir, flags)),
    );
  backbone
    .command('list')
    .description('list the backbones in the data folder')
    .addOption(json())
    .action((flags) =>
      run(flags.json, async () => (await import('./commands/backbone.ts')).backboneList(io, flags)),
    );
}

function addAdapter(program: Command, io: CliIo, run: Run): void {
  const adapter = program.command('adapter').description('upload, list and check adapters');
  connected(adapter.command('push'))
    .description('upload a PEFT folder as a new version of an adapter')
    .argument('<dir>', 'folder with adapter_config.json and adapter_model.safetensors')
    .option('--name <name>', "the adapter's name; without it, the folder's")
    .option('--backbone <id>', 'backbone that it was trained on; without it, the one that is served')
    .option('--wait', 'wait until it is READY or REJECTED', false)
    .option('--idempotency-key <key>', 'names this push; repeat it to go on after an interruption')
    .addHelpText(
      'after',
      '\nExample:\n  npx patchbay adapter push starter/adapters/sentiment --name mood --wait',
    )
    .action((dir, flags) =>
      run(flags.json, async () => (await import('./commands/push.ts')).adapterPush(io, dir, flags)),
    );
  connected(adapter.command('list'))
    .description('list adapters and what became of their newest upload')
    .option('--public', 'also list public adapters of other tenants', false)
    .action((flags) =>
      run(flags.json, async () => (await import('./commands/adapter.ts')).adapterList(io, flags)),
    );
  adapter
    .command('validate')
    .description('check a folder as an upload would be checked, without a server')
    .argument('<dir>', 'folder with adapter_config.json and adapter_model.safetensors')
    .requiredOption('--backbone <dir>', 'checkpoint folder that it was trained on')
    .addOption(json())
    .action((dir, flags) =>
      run(flags.json, async () => (await import('./commands/adapter.ts')).adapterValidate(io, dir, flags)),
    );
}

function addInference(program: Command, io: CliIo, run: Run): void {
  connected(program.command('infer'))
    .description('run one inference and stream it to the terminal; Ctrl-C cancels it')
    .option('-a, --adapter <name[:weight]>', 'adapter to use; repeat it for a blend', collect, [])
    .option('--plain', 'use the plain backbone, explicitly without an adapter', false)
    .option('-p, --prompt <text>', 'raw prompt; `-` or nothing reads stdin')
    .option(
      '-m, --message <[role:]text>',
      'chat message in place of a prompt; repeat it for a conversation',
      collect,
      [],
    )
    .option('-n, --max-tokens <number>', 'most tokens to generate', wholeNumber(1, 1_000_000), 256)
    .option('--temperature <number>', '0 picks the likeliest token', decimal(0, 2), 0)
    .option('--top-p <number>', 'nucleus mass in (0, 1]', decimal(0, 1), 1)
    .option('--seed <number>', 'same seed, same request, same tokens')
    .option('--stop <text>', 'text that ends the answer; repeatable', collect, [])
    .option('--ignore-eos', 'go on after the end-of-sequence token', false)
    .addOption(
      new Option('--priority <class>', 'how urgent it is')
        .choices(['interactive', 'standard', 'batch'])
        .default('standard'),
    )
    .option('--idempotency-key <key>', 'makes a retry safe: it never runs or bills twice')
    .option('--receipt <file>', 'write the signed receipt there, for `patchbay verify`')
    .option('--disclosure <file>', 'write prompt and answer as tokens there, for `patchbay verify --replay`')
    .addHelpText(
      'after',
      `
Examples:
  npx patchbay infer --adapter reverse --message "jungle bridge garden zebra"
  npx patchbay infer --adapter formal:0.7 --adapter legal:0.5 --message "system:Be brief." --message "Write to my landlord."
  echo "Once upon a time" | npx patchbay infer --plain --max-tokens 50`,
    )
    .action((flags) => run(flags.json, async () => (await import('./commands/infer.ts')).infer(io, flags)));
}

function addEngine(program: Command, io: CliIo, run: Run): void {
  program
    .command('run-batch')
    .description('run a file of requests through the engine, without server and database')
    .requiredOption('--backbone <dir>', 'checkpoint folder')
    .requiredOption('--input <file>', 'JSON Lines, one request a line')
    .requiredOption('--output <file>', 'JSON Lines, one answer a line, in the order of the input')
    .option('--max-batch <number>', 'sequences that run at the same time', wholeNumber(1, 64), 16)
    .addOption(bits())
    .option('--threads <number>', 'threads of the matrix kernels, 0 for all cores', wholeNumber(0, 256), 0)
    .addOption(json('print a summary as JSON on stdout'))
    .addHelpText(
      'after',
      `
Input line:   {"custom_id": "1", "prompt": "…" | "prompt_ids": […], "adapters": [{"path": "…", "weight": 1}],
               "max_tokens": 64, "temperature": 0, "seed": 1, "ignore_eos": false}
Output line:  {"custom_id": "1", "token_ids": […], "logprobs": […], "text": "…", "finish_reason": "stop", "usage": {…}}
         or:  {"custom_id": "1", "error": {"code": "…", "message": "…"}}
Exits with 3 when a line was refused; the others are answered all the same.`,
    )
    .action((flags) =>
      run(flags.json, async () => (await import('./commands/engine.ts')).runBatchCommand(io, flags)),
    );
  const bench = program.command('bench').description('measure');
  bench
    .command('engine')
    .description('measure the engine under a made load: tokens/s, latencies, where the step time goes')
    .requiredOption('--backbone <dir>', 'checkpoint folder, `synthetic:30m` or `synthetic:135m`')
    .addOption(
      new Option('--workload <kind>', 'how adapters are spread over requests')
        .choices(WORKLOADS)
        .default('distinct'),
    )
    .option('--streams <number>', 'requests in flight', wholeNumber(1, 1_024), 16)
    .option('--requests <number>', 'requests in all', wholeNumber(1, 1_000_000), 64)
    .option('--prompt <tokens>', 'tokens of each prompt', wholeNumber(1, 1_000_000), 64)
    .option('--new <tokens>', 'tokens to generate for each', wholeNumber(1, 1_000_000), 64)
    .option('--rank <number>', 'rank of the adapters', wholeNumber(1, 1_024), 16)
    .option(
      '--ranks <list>',
      'ranks of the adapters in turn, such as 8,16,40,64; instead of --rank',
      wholeNumbers(1, 1_024),
    )
    .addOption(bits())
    .option('--threads <number>', 'threads of the matrix kernels, 0 for all cores', wholeNumber(0, 256), 0)
    .option('--seed <number>', 'seed of weights and load', wholeNumber(0, Number.MAX_SAFE_INTEGER), 1)
    .addOption(json())
    .action((flags) =>
      run(flags.json, async () => (await import('./commands/engine.ts')).benchEngineCommand(io, flags)),
    );
}
