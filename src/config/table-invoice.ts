import { z } from 'zod';
import type { Read } from './read.ts';
import { optionalText } from './setting.ts';

const ISSUER_CHARS_MAX = 1_000;

/** What bills say besides what they are about. */
export function invoiceTable(read: Read) {
  return {
    invoices: {
      issuer: read(
        'Invoices',
        optionalText(
          {
            env: 'PATCHBAY_INVOICE_ISSUER',
            doc: 'Who writes the bills: name, address, what the law wants. `\\n` begins a new line. A bill keeps what was set when its month was closed.',
          },
          {
            schema: z
              .string()
              .transform((text) => text.replaceAll('\\n', '\n').trim())
              .refine((text) => text.length > 0 && [...text].length <= ISSUER_CHARS_MAX),
            expected: `1 to ${ISSUER_CHARS_MAX} characters`,
          },
        ),
      ),
    },
  };
}
