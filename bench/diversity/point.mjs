// Measures one point in a process of its own, so that its memory is its own. Reads a job from its first argument.
import { measurePoint } from '../../dist/bench/diversity/measure-point.js';

const sample = await measurePoint(JSON.parse(process.argv[2] ?? ''));
process.stdout.write(`${JSON.stringify(sample)}\n`, () => process.exit(0));
