// Frauds of an operator who holds the signing key, and can therefore sign whatever it likes.
import { createHash } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SigningKey, TypedDataEncoder, Wallet } from 'ethers';
import { documentsOf, unpack } from './folder.mjs';

const bySortedKeys = (value) =>
  value !== null && typeof value === 'object' && !Array.isArray(value)
    ? Object.fromEntries(
        Object.keys(value)
          .sort()
          .map((key) => [key, bySortedKeys(value[key])]),
      )
    : Array.isArray(value)
      ? value.map(bySortedKeys)
      : value;

/** What the specification calls the digest of a document. */
const digestOf = (document) =>
  `0x${createHash('sha256')
    .update(JSON.stringify(bySortedKeys(document)))
    .digest('hex')}`;

/** Signs as the platform does: docs/reference/proofs.md. */
function sign(key, log, name, fields, message) {
  const domain = { name: 'Patchbay proofs', version: '1', salt: `0x${log}` };
  const types = { [name]: fields.map(([field, type]) => ({ name: field, type })) };
  return new SigningKey(key).sign(TypedDataEncoder.hash(domain, types, message)).serialized;
}

/**
 * Plants frauds in what parties hold and says how each was found. None is found by anything else than the verifier.
 * @param {{ bundles: readonly any[], owners: readonly any[], folder: string, flags: readonly string[], proofKey: string,
 *   patchbay: (args: string[]) => Promise<{ code: number, out: string }> }} at
 */
export async function plantFrauds({ bundles, owners, folder, flags, proofKey, patchbay }) {
  const [tenant] = bundles;
  const [owner] = owners;
  const ofOwner = bundles.find(({ slug }) => slug === owner.slug);
  const fresh = async (bundle, name) => {
    const at = join(folder, 'frauds', name);
    await unpack(bundle.file, at);
    return at;
  };
  const audit = async (at, ...more) => {
    const { code, out } = await patchbay(['audit', at, '--epoch', '1', '--json', ...flags, ...more]);
    return { code, codes: JSON.parse(out).findings.map((finding) => finding.code) };
  };

  const frauds = [];
  const caught = (fraud, code, found) => {
    if (code !== 1) throw new Error(`Not found: ${fraud} (${found})`);
    frauds.push({ fraud, found });
  };

  {
    const at = await fresh(tenant, 'count');
    const [[name, receipt]] = await documentsOf(at, 'patchbay-receipt/1');
    const field = receipt.opened.find((each) => each.name === 'completionTokens');
    field.value = String(Number(field.value) + 100);
    await writeFile(join(at, name), JSON.stringify(receipt));
    const { code, out } = await patchbay(['verify', at, ...flags]);
    const found = out.split('\n').find((line) => /^ +✗/.test(line)) ?? '';
    caught(`${tenant.slug} is shown 100 tokens more than were counted`, code, found.trim());
  }
  {
    const at = await fresh(ofOwner, 'dropped');
    const receipts = await documentsOf(at, 'patchbay-receipt/1');
    const [[name]] = receipts.slice(1);
    await rm(join(at, name));
    const { code, codes } = await audit(at);
    caught(
      `a request on an adapter of ${owner.slug} is left out of what ${owner.slug} gets`,
      code,
      codes.join(', '),
    );
  }
  {
    const at = await fresh(ofOwner, 'history');
    const [[name, document]] = await documentsOf(at, 'patchbay-epoch/1');
    document.epoch.accounts.root = 'ab'.repeat(32);
    document.signature = sign(
      proofKey,
      document.log,
      'Epoch',
      [
        ['number', 'uint64'],
        ['digest', 'bytes32'],
        ['signedAt', 'uint64'],
      ],
      { number: document.epoch.number, digest: digestOf(document.epoch), signedAt: document.signedAt },
    );
    await writeFile(join(at, name), JSON.stringify(document));
    const { code, codes } = await audit(at);
    caught('an epoch is written anew and signed again by the right key', code, codes.join(', '));
  }
  {
    const at = await fresh(ofOwner, 'address');
    const [[name, document]] = await documentsOf(at, 'patchbay-claim/1');
    document.claim.account = Wallet.createRandom().address;
    document.signature = sign(
      proofKey,
      document.log,
      'PayoutClaim',
      [
        ['digest', 'bytes32'],
        ['signedAt', 'uint64'],
      ],
      { digest: digestOf(document.claim), signedAt: document.signedAt },
    );
    await writeFile(join(at, name), JSON.stringify(document));
    const { code, codes } = await audit(at, '--account', owner.wallet.address);
    caught(`what ${owner.slug} has earned goes to another account`, code, codes.join(', '));
  }
  return frauds;
}
