import { getAddress } from 'ethers';
import type { Database } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import { type KeySource, openWallet } from './account.ts';
import { Anchorer } from './anchoring/anchorer.ts';
import { AnchorReader } from './anchoring/reader.ts';
import { AnchorStore } from './anchoring/store.ts';
import { AttributionAnchor } from './attribution-anchor.ts';
import { type ChainConnection, openProvider } from './connect.ts';
import { OUTBOX_ERRORS } from './outbox/errors.ts';
import { RpcNode } from './outbox/node.ts';
import type { Finality } from './outbox/observe.ts';
import { ChainOutbox } from './outbox/outbox.ts';
import { OutboxSender, SENDER_DEFAULTS } from './outbox/sender.ts';
import { walletTransactionSigner } from './outbox/signer.ts';
import { type ChainSite, type SiteDocument, siteDescriber } from './site.ts';
import { ChainStatusService } from './status.ts';

/** What a deployment has on a chain, and how it sends there. */
export interface ChainOptions {
  readonly connection: ChainConnection;
  readonly site: ChainSite;
  /** Null: this process sends nothing. */
  readonly key: KeySource | null;
  /** Whether closed epochs are anchored. */
  readonly anchors: boolean;
  readonly finality: Finality;
  readonly bumpMs: number;
  readonly feeCeiling: bigint;
}

/** The chain as the rest of the program sees it. */
export interface Chain {
  readonly outbox: ChainOutbox;
  /** Null for a process without a key. */
  readonly sender: OutboxSender | null;
  /** Null where nothing is anchored. */
  readonly anchorer: Anchorer | null;
  readonly anchors: AnchorReader | null;
  readonly status: ChainStatusService;
  /** Where things are, with the checksum in their letters. */
  readonly contracts: ChainSite;
  /** Where things are, for everybody. */
  readonly site: () => Promise<SiteDocument>;
  /** Ends every call to the node, those that are under way too. */
  close(): void;
}

/** Puts the parts together. Asks the chain nothing: a chain that does not answer keeps nothing from starting. */
export async function openChain(
  options: ChainOptions,
  deps: { readonly database: Database; readonly clock: Clock },
): Promise<Chain> {
  const { connection, finality } = options;
  const { chainId } = connection;
  const { database } = deps;
  const site = checked(options.site);
  const ending = new AbortController();
  const provider = openProvider(connection, ending.signal);
  const node = new RpcNode(provider, OUTBOX_ERRORS);
  const outbox = new ChainOutbox({ chainId }, deps);
  const signer = options.key === null ? null : walletTransactionSigner(await openWallet(options.key));
  const { bumpMs, feeCeiling } = options;
  const sending = { ...SENDER_DEFAULTS, chainId, finality, bumpMs, feeCeiling };
  const place = site.anchor === null || !options.anchors ? null : { chainId, contract: site.anchor };
  return {
    outbox,
    contracts: site,
    sender: signer === null ? null : new OutboxSender(sending, { ...deps, node, signer }),
    anchorer:
      place === null || signer === null
        ? null
        : new Anchorer(
            { chainId, finality },
            {
              store: new AnchorStore(place, { ...deps, outbox }),
              anchor: new AttributionAnchor(provider, place.contract),
              node,
            },
          ),
    anchors: place === null ? null : new AnchorReader(place, database),
    status: new ChainStatusService({ site, account: signer?.address ?? null }, { database }),
    site: siteDescriber(site, provider),
    close: () => {
      ending.abort();
      provider.destroy();
    },
  };
}

/** Addresses with the checksum in their letters, so that the same contract is always written in the same way. */
function checked({ chainId, anchor, distributor, token }: ChainSite): ChainSite {
  const address = (text: string | null) => (text === null ? null : getAddress(text.toLowerCase()));
  return {
    chainId,
    anchor: address(anchor),
    distributor: address(distributor),
    token: address(token),
  };
}
