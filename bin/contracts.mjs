#!/usr/bin/env node
// Compiles the contracts with the compiler that package-lock.json pins, and writes what the program needs of them.
// `--check` only says whether the artifacts are exactly what the sources give.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { keccak256 } from 'ethers';
import solc from 'solc';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const require = createRequire(import.meta.url);

/** What is compiled, and where the artifact goes. */
const CONTRACTS = [
  { source: 'contracts/AttributionAnchor.sol', output: 'contracts/artifacts/AttributionAnchor.json' },
  { source: 'contracts/RoyaltyDistributor.sol', output: 'contracts/artifacts/RoyaltyDistributor.json' },
  { source: 'contracts/LocalToken.sol', output: 'contracts/artifacts/LocalToken.json' },
  { source: 'test/contracts/MockToken.sol', output: 'test/contracts/MockToken.json' },
];

/** Part of what a contract is: another setting gives other code. `paris` has nothing that any EVM chain of today lacks. */
const SETTINGS = { evmVersion: 'paris', optimizer: { enabled: true, runs: 10_000 } };

const check = process.argv.includes('--check');
const compiled = compile(CONTRACTS.map(({ source }) => source));
let stale = 0;
for (const { source, output } of CONTRACTS) {
  const wanted = `${JSON.stringify(artifact(source), null, 2)}\n`;
  const file = path.join(ROOT, output);
  const current = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : null;
  if (current === wanted) continue;
  stale += 1;
  if (check) {
    process.stderr.write(`${output} is not what ${source} gives; run: node bin/contracts.mjs\n`);
    continue;
  }
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, wanted);
  process.stdout.write(`Wrote ${output}\n`);
}
process.exitCode = check && stale > 0 ? 1 : 0;

/** Everything about one contract, in an order that is always the same. */
function artifact(source) {
  const name = path.basename(source, '.sol');
  const contract = compiled.contracts[source][name];
  const { settings, sources, compiler } = JSON.parse(contract.metadata);
  return {
    format: 'patchbay-contract/1',
    name,
    source,
    compiler: { version: compiler.version, ...SETTINGS, metadata: settings.metadata },
    sources: Object.fromEntries(
      Object.entries(sources)
        .map(([file, { keccak256: hash }]) => [file, hash])
        .sort(([a], [b]) => (a < b ? -1 : 1)),
    ),
    abi: contract.abi,
    bytecode: `0x${contract.evm.bytecode.object}`,
    // The code as it is on the chain, but for immutables, which are zero here: that is what a deployment is compared with.
    deployedBytecodeHash: keccak256(`0x${contract.evm.deployedBytecode.object}`),
    immutables: immutables(contract.evm.deployedBytecode.immutableReferences),
  };
}

function compile(sources) {
  const files = sources.map((source) => [
    source,
    { content: fs.readFileSync(path.join(ROOT, source), 'utf8') },
  ]);
  const code = [
    'evm.bytecode.object',
    'evm.deployedBytecode.object',
    'evm.deployedBytecode.immutableReferences',
  ];
  const wanted = sources.map((source) => [
    source,
    { '': ['ast'], [path.basename(source, '.sol')]: ['abi', 'metadata', ...code] },
  ]);
  const input = {
    language: 'Solidity',
    sources: Object.fromEntries(files),
    settings: {
      ...SETTINGS,
      metadata: { bytecodeHash: 'ipfs' },
      outputSelection: Object.fromEntries(wanted),
    },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: find }));
  const problems = output.errors ?? [];
  for (const { formattedMessage } of problems) process.stderr.write(`${formattedMessage}\n`);
  // A warning is a mistake in contracts that hold money.
  if (problems.length > 0) throw new Error('The contracts do not compile cleanly.');
  return output;
}

/** The compiler's import callback: packages come from node_modules and nowhere else. */
function find(name) {
  try {
    return { contents: fs.readFileSync(require.resolve(name), 'utf8') };
  } catch (error) {
    return { error: String(error) };
  }
}

/** Where in the deployed code immutables are, by name; the compiler knows them by numbers of its syntax tree. */
function immutables(references) {
  return Object.entries(references)
    .map(([id, places]) => ({
      name: variableName(id),
      offsets: places
        .map(({ start, length }) => {
          if (length !== 32) throw new Error(`An immutable has ${length} bytes in place of 32.`);
          return start;
        })
        .sort((a, b) => a - b),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Name of the state variable with this number. */
function variableName(id) {
  const members = Object.values(compiled.sources)
    .flatMap(({ ast }) => ast?.nodes ?? [])
    .flatMap(({ nodes }) => nodes ?? []);
  const found = members.find((node) => node.nodeType === 'VariableDeclaration' && String(node.id) === id);
  if (found === undefined) throw new Error(`No contract of ours declares the immutable ${id}.`);
  return found.name;
}
