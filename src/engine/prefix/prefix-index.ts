/** Whose prompts may share a prefix: everything that keys and values depend on besides the tokens, and the tenant. */
export interface PrefixOwner {
  readonly tenantId: string;
  /** Equal for equal computation only: content digests and weights, see `prefixOwner`. */
  readonly root: string;
}

/** The buffers that an index decides about. */
export interface PrefixBuffers {
  /** Puts the prompt's block of that index into a buffer. */
  fill(slot: number, index: number): void;
  /** Forgets what a buffer holds; it is filled with another block next. */
  wipe(slot: number): void;
}

/** A prompt's blocks as keys, made when they are asked for: a search stops at the first that is not kept. */
export interface BlockKeys {
  readonly count: number;
  /** Exact: two blocks have the same key only if they have the same tokens. */
  key(index: number): string;
}

interface Node {
  /** Null for the root of an owner, which is no block. */
  readonly parent: Node | null;
  readonly key: string;
  readonly slot: number;
  readonly children: Map<string, Node>;
}

interface Tenant {
  readonly id: string;
  readonly roots: Map<string, Node>;
  /** All its blocks, least recently used first; a parent stands behind its children, so the first has none. */
  readonly order: Set<Node>;
}

const ROOT_SLOT = -1;

/**
 * Which blocks of which prompts are kept, and which buffer each is in. Pure bookkeeping: it holds no keys and values.
 *
 * Blocks of a prompt form a path from the root of its owner, so a block is found only behind the same tokens of the
 * same owner. When all buffers are taken, the tenant that has most gives up the end of its least recently used path:
 * one tenant's many prompts cannot push out another's few.
 */
export class PrefixIndex {
  readonly #tenants = new Map<string, Tenant>();
  readonly #capacity: number;
  /** Buffers that were handed out. */
  #made = 0;
  /** Those of them that hold no block because they could not be filled. */
  readonly #spare: number[] = [];

  /** @param capacity number of buffers */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Buffers in use. */
  get size(): number {
    return this.#made;
  }

  /** How many blocks from the first on are kept; counts as no use. */
  peek(owner: PrefixOwner, keys: BlockKeys): number {
    return this.#path(owner, keys).length;
  }

  /** The buffers of the blocks that are kept, from the first on; valid until the next {@link PrefixIndex.extend}. */
  use(owner: PrefixOwner, keys: BlockKeys): readonly number[] {
    const path = this.#path(owner, keys);
    this.#touch(owner, path);
    return path.map(({ slot }) => slot);
  }

  /** Keeps a prompt's blocks as far as there is room. What `fill` throws is passed on; that block is not kept. */
  extend(owner: PrefixOwner, keys: BlockKeys, buffers: PrefixBuffers): void {
    const path = this.#path(owner, keys);
    this.#touch(owner, path);
    const tenant = this.#tenant(owner);
    const root = this.#root(owner, tenant);
    const spared = new Set([root, ...path]);
    let parent = path.at(-1) ?? root;
    try {
      while (path.length < keys.count) {
        const slot = this.#takeSlot(tenant, spared, buffers);
        if (slot === null) break;
        this.#spare.push(slot);
        buffers.fill(slot, path.length);
        this.#spare.pop();
        const node: Node = { parent, key: keys.key(path.length), slot, children: new Map() };
        parent.children.set(node.key, node);
        tenant.order.add(node);
        spared.add(node);
        path.push(node);
        parent = node;
      }
    } finally {
      this.#touch(owner, path);
      this.#forgetIfEmpty(tenant, root);
    }
  }

  #path(owner: PrefixOwner, keys: BlockKeys): Node[] {
    const path: Node[] = [];
    let node = this.#tenants.get(owner.tenantId)?.roots.get(owner.root);
    while (node !== undefined && path.length < keys.count) {
      node = node.children.get(keys.key(path.length));
      if (node !== undefined) path.push(node);
    }
    return path;
  }

  /** Makes a path the most recently used one, its end before its beginning. */
  #touch(owner: PrefixOwner, path: readonly Node[]): void {
    const order = this.#tenants.get(owner.tenantId)?.order;
    for (const node of path.toReversed()) {
      order?.delete(node);
      order?.add(node);
    }
  }

  #tenant({ tenantId }: PrefixOwner): Tenant {
    const tenant = this.#tenants.get(tenantId) ?? { id: tenantId, roots: new Map(), order: new Set() };
    this.#tenants.set(tenantId, tenant);
    return tenant;
  }

  #root({ root }: PrefixOwner, { roots }: Tenant): Node {
    const node = roots.get(root) ?? { parent: null, key: root, slot: ROOT_SLOT, children: new Map() };
    roots.set(root, node);
    return node;
  }

  #takeSlot(asking: Tenant, spared: ReadonlySet<Node>, buffers: PrefixBuffers): number | null {
    const spare = this.#spare.pop();
    if (spare !== undefined) return spare;
    if (this.#made < this.#capacity) return this.#made++;
    const richest = this.#richest(asking);
    const [victim] = richest.order;
    if (victim === undefined || spared.has(victim)) return null;
    richest.order.delete(victim);
    const { parent, key, slot } = victim;
    parent?.children.delete(key);
    if (parent !== null && !spared.has(parent)) this.#forgetIfEmpty(richest, parent);
    buffers.wipe(slot);
    return slot;
  }

  /** Who has most blocks; of equals the one that asks for another. */
  #richest(asking: Tenant): Tenant {
    let richest = asking;
    for (const tenant of this.#tenants.values()) {
      if (tenant.order.size > richest.order.size) richest = tenant;
    }
    return richest;
  }

  #forgetIfEmpty(tenant: Tenant, root: Node): void {
    if (root.parent !== null || root.children.size > 0) return;
    tenant.roots.delete(root.key);
    if (tenant.roots.size === 0) this.#tenants.delete(tenant.id);
  }
}
