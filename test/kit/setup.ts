import { afterAll } from 'vitest';
import { endFile } from './file-end.ts';

// Evaluated anew for every test file.
afterAll(endFile);
