import { processIo } from './cli/io.ts';
import { runCli } from './cli/program.ts';

// `npm start`: config → wire → run → print → drain. The same as `patchbay serve`; flags come after `--`.
process.exit(await runCli(['serve', ...process.argv.slice(2)], processIo()));
