import { z } from 'zod';
import { systemClock } from '../../../src/kernel/clock.ts';
import { openLog } from '../../../src/proofs/log/open.ts';
import { LOG_ID, testSigner } from '../../kit/log.ts';
import { MortalDatabase, mortal } from '../../kit/mortal.ts';

// A process that appends to the log, a few leaves under each head, and kills itself at one point of it.

const order = z.object({ appUrl: z.string(), systemUrl: z.string(), point: z.string() });
const { appUrl, systemUrl, point } = order.parse(JSON.parse(process.argv[2] ?? ''));
const pass = mortal(point);
const database = new MortalDatabase({ appUrl, systemUrl, applicationName: 'mortal' }, pass);
const signer = testSigner();
const { appender } = openLog(
  { logId: LOG_ID, leavesMax: 300 },
  {
    clock: systemClock,
    // Here each transaction on a plain connection has its points, too.
    database: {
      querySystem: (text, values) => database.querySystem(text, values),
      withSystemPg: (work) =>
        database
          .withSystemPg(async (client) => {
            const result = await work(client);
            await pass('before commit');
            return result;
          })
          .then(async (result) => {
            await pass('after commit');
            return result;
          }),
    },
    signer: {
      address: signer.address,
      sign: async (digest) => {
        await pass('before signing');
        const signature = await signer.sign(digest);
        await pass('after signing');
        return signature;
      },
    },
  },
);
await appender.run();
await database.close();
