import { serve } from './cli/commands/serve.ts';
import { processIo, runAction } from './cli/io.ts';

// `npm start`: config → wire → run → print → drain. The same as `patchbay serve`, without flags.
const io = processIo();
const code = await runAction(io, false, () => serve(io, { json: false }));
process.exit(code);
