import type { Read } from './read.ts';
import { integer, money } from './setting.ts';

/** What the machines cost, for weighing what adapters bring against it. */
export function economicsTable(read: Read) {
  return {
    economics: {
      machinePriceNano: read(
        'Economics',
        money(
          {
            env: 'PATCHBAY_MACHINE_PRICE',
            doc: 'What one machine costs for an hour, in units of the installation’s currency. Compute and memory are priced by it, and it is compared with a machine for each adapter. 0 prices nothing.',
          },
          { default: '0', min: '0', max: '1000000' },
        ),
      ),
      memoryPercent: read(
        'Economics',
        integer(
          {
            env: 'PATCHBAY_MACHINE_MEMORY_PERCENT',
            doc: 'Percentage of that price that the memory for adapters bears, host cache and bank; computing bears the rest.',
          },
          { default: 50, min: 0, max: 100 },
        ),
      ),
    },
  };
}
