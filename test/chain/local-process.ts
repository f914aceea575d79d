import { openLocalChain } from '../../src/chain/local/open.ts';

// Opens the local chain of a folder, says so, and stays until it is killed.

const { rpcUrl, chainId } = await openLocalChain(process.argv[2] ?? '', 0);
process.stdout.write(`${JSON.stringify({ rpcUrl, chainId })}\n`);
setInterval(() => {}, 60_000);
