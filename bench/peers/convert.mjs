// Turns the synthetic checkpoint and the synthetic adapters into GGUF files that llama.cpp loads, and one adapter into a
// PEFT folder that Patchbay loads, so that both engines run the same weights.
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseModelConfig } from '../../dist/backbone/config.js';
import { syntheticAdapter, syntheticCheckpoint } from '../../dist/bench/synthetic.js';
import { BACKBONE_HEADER_LIMITS } from '../../dist/safetensors/header.js';
import { openSafetensors } from '../../dist/safetensors/source.js';
import { writeSafetensors } from '../../dist/safetensors/write.js';
import { meta, writeGguf } from './gguf.mjs';

/** llama.cpp's names of a layer's tensors, and whether rotary embedding is applied to the output. */
const LAYER_TENSORS = [
  ['attn_norm', 'input_layernorm'],
  ['ffn_norm', 'post_attention_layernorm'],
  ['attn_q', 'self_attn.q_proj', 'heads'],
  ['attn_k', 'self_attn.k_proj', 'kvHeads'],
  ['attn_v', 'self_attn.v_proj'],
  ['attn_output', 'self_attn.o_proj'],
  ['ffn_gate', 'mlp.gate_proj'],
  ['ffn_up', 'mlp.up_proj'],
  ['ffn_down', 'mlp.down_proj'],
];

/**
 * Reorders the rows of q and k: checkpoints pair dimension i of a head with i + headDim / 2 in the rotary embedding,
 * GGUF files of this family pair neighbours.
 */
function interleaveHeads(values, heads, rows) {
  const columns = values.length / rows;
  const headDim = rows / heads;
  const out = new Float32Array(values.length);
  for (let head = 0; head < heads; head++) {
    for (let i = 0; i < headDim; i++) {
      const from = head * headDim + (i % 2) * (headDim / 2) + (i >> 1);
      const to = head * headDim + i;
      out.set(values.subarray(from * columns, (from + 1) * columns), to * columns);
    }
  }
  return out;
}

const exists = async (path) => (await stat(path).catch(() => null)) !== null;

/** Writes a file under another name first, so that an interrupted run leaves nothing that looks whole. */
async function once(path, write) {
  if (await exists(path)) return path;
  await write(`${path}.part`);
  await rename(`${path}.part`, path);
  return path;
}

/** The synthetic checkpoint with its shape. */
export async function checkpointOf(backbone) {
  const dir = await syntheticCheckpoint(backbone);
  return { dir, shape: parseModelConfig(JSON.parse(await readFile(join(dir, 'config.json'), 'utf8'))) };
}

/** The backbone as GGUF, with F32 or Q8_0 matrices; norms stay F32, as llama.cpp's own converter leaves them. */
export async function backboneGguf({ dir, shape }, type, folder) {
  await mkdir(folder, { recursive: true });
  return once(join(folder, `backbone-${type}.gguf`), async (path) => {
    const source = await openSafetensors(join(dir, 'model.safetensors'), BACKBONE_HEADER_LIMITS);
    const read = async (name) => {
      const bytes = await source.readTensor(name);
      return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
    };
    const tensor = (ggufName, name, heads) => {
      const dims = [...source.tensors.get(name).shape];
      return {
        name: `${ggufName}.weight`,
        dims,
        type: dims.length === 1 ? 'F32' : type,
        values: async () =>
          heads === undefined ? read(name) : interleaveHeads(await read(name), heads, dims[0]),
      };
    };
    const tensors = [
      tensor('token_embd', 'model.embed_tokens.weight'),
      tensor('output_norm', 'model.norm.weight'),
    ];
    for (let layer = 0; layer < shape.layers; layer++) {
      for (const [gguf, name, heads] of LAYER_TENSORS) {
        tensors.push(tensor(`blk.${layer}.${gguf}`, `model.layers.${layer}.${name}.weight`, shape[heads]));
      }
    }
    await writeGguf(path, { ...modelMetadata(shape, type), ...vocabulary(shape.vocabSize) }, tensors);
    await source.close();
  });
}

function modelMetadata(shape, type) {
  return {
    'general.architecture': meta.string('llama'),
    'general.name': meta.string('patchbay synthetic'),
    'general.file_type': meta.uint32(type === 'F32' ? 0 : 7),
    'llama.context_length': meta.uint32(shape.maxPositions),
    'llama.embedding_length': meta.uint32(shape.hiddenSize),
    'llama.block_count': meta.uint32(shape.layers),
    'llama.feed_forward_length': meta.uint32(shape.intermediateSize),
    'llama.attention.head_count': meta.uint32(shape.heads),
    'llama.attention.head_count_kv': meta.uint32(shape.kvHeads),
    'llama.attention.key_length': meta.uint32(shape.headDim),
    'llama.attention.value_length': meta.uint32(shape.headDim),
    'llama.attention.layer_norm_rms_epsilon': meta.float32(shape.rmsNormEps),
    'llama.rope.dimension_count': meta.uint32(shape.headDim),
    'llama.rope.freq_base': meta.float32(shape.ropeTheta),
    'llama.vocab_size': meta.uint32(shape.vocabSize),
  };
}

/** A vocabulary of the right size that no text goes through: three special tokens, the bytes, then numbered words. */
function vocabulary(size) {
  const special = ['<unk>', '<s>', '</s>'];
  const tokens = Array.from({ length: size }, (_, id) => {
    if (id < 3) return special[id];
    if (id < 259) return `<0x${(id - 3).toString(16).toUpperCase().padStart(2, '0')}>`;
    return `word${id}`;
  });
  const types = tokens.map((_, id) => (id === 0 ? 2 : id < 3 ? 3 : id < 259 ? 6 : 1));
  return {
    'tokenizer.ggml.model': meta.string('llama'),
    'tokenizer.ggml.tokens': meta.strings(tokens),
    'tokenizer.ggml.scores': meta.float32s(tokens.map((_, id) => -id)),
    'tokenizer.ggml.token_type': meta.int32s(types),
    'tokenizer.ggml.bos_token_id': meta.uint32(1),
    'tokenizer.ggml.eos_token_id': meta.uint32(2),
    'tokenizer.ggml.unknown_token_id': meta.uint32(0),
    'tokenizer.ggml.add_bos_token': meta.bool(false),
    'tokenizer.ggml.add_eos_token': meta.bool(false),
  };
}

/** Adapter number `seed` of `patchbay bench engine` as GGUF, in F32: rank 16 is no multiple of a Q8_0 block. */
export async function adapterGguf({ shape }, rank, seed, folder) {
  await mkdir(folder, { recursive: true });
  return once(join(folder, `adapter-r${rank}-${seed}.gguf`), async (path) => {
    const { modules } = syntheticAdapter(shape, rank, seed, String(seed));
    const tensors = modules.flatMap(({ layer, target, a, b }) => {
      const [gguf, , heads] = LAYER_TENSORS.find(([, name]) => name.endsWith(`.${target}`));
      const name = `blk.${layer}.${gguf}.weight`;
      const rows = b.length / rank;
      const turned = heads === undefined ? b : interleaveHeads(b, shape[heads], rows);
      return [
        { name: `${name}.lora_a`, dims: [rank, a.length / rank], type: 'F32', values: () => a },
        { name: `${name}.lora_b`, dims: [rows, rank], type: 'F32', values: () => turned },
      ];
    });
    const metadata = {
      'general.type': meta.string('adapter'),
      'general.architecture': meta.string('llama'),
      'general.name': meta.string(`patchbay synthetic adapter ${seed}`),
      'adapter.type': meta.string('lora'),
      'adapter.lora.alpha': meta.float32(modules[0].scale * rank),
    };
    await writeGguf(path, metadata, tensors);
  });
}

/** The same adapter as a PEFT folder. */
export async function adapterPeft({ shape }, rank, seed, folder) {
  const dir = join(folder, `adapter-r${rank}-${seed}`);
  return once(dir, async (building) => {
    await mkdir(building, { recursive: true });
    const { modules } = syntheticAdapter(shape, rank, seed, String(seed));
    const config = {
      peft_type: 'LORA',
      r: rank,
      lora_alpha: modules[0].scale * rank,
      target_modules: [...new Set(modules.map(({ target }) => target))],
      bias: 'none',
      task_type: 'CAUSAL_LM',
    };
    await writeFile(join(building, 'adapter_config.json'), JSON.stringify(config));
    const tensors = modules.flatMap(({ layer, target, a, b }) => {
      const block = ['gate_proj', 'up_proj', 'down_proj'].includes(target) ? 'mlp' : 'self_attn';
      const name = `base_model.model.model.layers.${layer}.${block}.${target}`;
      return [
        part(`${name}.lora_A.weight`, [rank, a.length / rank], a),
        part(`${name}.lora_B.weight`, [b.length / rank, rank], b),
      ];
    });
    await writeSafetensors(join(building, 'adapter_model.safetensors'), tensors);
  });
}

function part(name, shape, values) {
  const chunks = () => [new Uint8Array(values.buffer, values.byteOffset, values.byteLength)];
  return { name, dtype: 'F32', shape, chunks };
}
