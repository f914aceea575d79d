import { processIo } from './cli/io.ts';
import { runCli } from './cli/program.ts';

// A reader that goes away (`patchbay … | head`) ends the command quietly.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

const code = await runCli(process.argv.slice(2), processIo());
// What a command leaves open, such as a pooled connection, must not keep it from ending; but output that a slow pipe
// has not taken yet must get out first.
process.exitCode = code;
process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
