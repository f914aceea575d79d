import { describe, expect, test } from 'vitest';
import { parseModelConfig } from '../../../src/backbone/config.ts';

const LLAMA = {
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  hidden_size: 96,
  num_hidden_layers: 3,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  intermediate_size: 160,
  vocab_size: 320,
  rms_norm_eps: 1e-5,
};

describe('reading config.json', () => {
  test('fills in what the families leave to their defaults', () => {
    expect(parseModelConfig(LLAMA)).toMatchObject({ headDim: 16, ropeTheta: 10_000, tiedEmbeddings: false });
    const { num_key_value_heads: _, ...multiHead } = LLAMA;
    expect(parseModelConfig(multiHead).kvHeads).toBe(6);
    const qwen3 = { ...LLAMA, model_type: 'qwen3', architectures: ['Qwen3ForCausalLM'] };
    expect(parseModelConfig(qwen3)).toMatchObject({ headDim: 128, qkNorm: true, qkvBias: false });
    const qwen2 = { ...LLAMA, model_type: 'qwen2', architectures: ['Qwen2ForCausalLM'] };
    expect(parseModelConfig(qwen2)).toMatchObject({ headDim: 16, qkNorm: false, qkvBias: true });
  });

  test('reads llama3 rope scaling in every spelling that transformers has used', () => {
    const factors = {
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    };
    const expected = { factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8192 };
    for (const key of ['rope_type', 'type']) {
      const config = { ...LLAMA, rope_theta: 500_000, rope_scaling: { ...factors, [key]: 'llama3' } };
      expect(parseModelConfig(config)).toMatchObject({ ropeTheta: 500_000, ropeScaling: expected });
    }
    const newer = { ...LLAMA, rope_parameters: { ...factors, rope_type: 'llama3', rope_theta: 500_000 } };
    expect(parseModelConfig(newer)).toMatchObject({ ropeTheta: 500_000, ropeScaling: expected });
    expect(parseModelConfig({ ...LLAMA, rope_scaling: { rope_type: 'default' } }).ropeScaling).toBeNull();
  });

  test.each([
    ['model_type', { model_type: 'gpt2' }],
    ['model_type', { model_type: 'mixtral' }],
    ['architectures', { architectures: ['LlamaForSequenceClassification'] }],
    ['hidden_act', { hidden_act: 'gelu' }],
    ['attention_bias', { attention_bias: true }],
    ['mlp_bias', { mlp_bias: true }],
    ['rope_scaling', { rope_scaling: { type: 'linear', factor: 2 } }],
    ['rope_scaling', { rope_scaling: { rope_type: 'yarn', factor: 4 } }],
    ['rope_scaling', { rope_parameters: { rope_type: 'dynamic', rope_theta: 1e4, factor: 2 } }],
    ['rope_scaling', { rope_parameters: { rope_type: 'default', partial_rotary_factor: 0.25 } }],
    ['partial_rotary_factor', { partial_rotary_factor: 0.5 }],
    ['num_local_experts', { num_local_experts: 8 }],
    ['num_experts', { num_experts: 64 }],
    ['quantization_config', { quantization_config: { bits: 4 } }],
    ['attn_logit_softcapping', { attn_logit_softcapping: 50 }],
    ['layer_types', { layer_types: ['full_attention', 'sliding_attention', 'full_attention'] }],
  ])('refuses %s when it would change the mathematics', (field, change) => {
    expect(() => parseModelConfig({ ...LLAMA, ...change })).toThrow(
      expect.objectContaining({ code: 'BACKBONE_UNSUPPORTED', field }),
    );
  });

  test('refuses a sliding window exactly where the family uses it', () => {
    const mistral = {
      ...LLAMA,
      model_type: 'mistral',
      architectures: ['MistralForCausalLM'],
      sliding_window: 4096,
    };
    expect(() => parseModelConfig(mistral)).toThrow(expect.objectContaining({ field: 'sliding_window' }));
    expect(parseModelConfig({ ...mistral, sliding_window: null }).family).toBe('mistral');
    const qwen2 = {
      ...LLAMA,
      model_type: 'qwen2',
      architectures: ['Qwen2ForCausalLM'],
      sliding_window: 4096,
    };
    expect(parseModelConfig({ ...qwen2, use_sliding_window: false }).family).toBe('qwen2');
    expect(() => parseModelConfig({ ...qwen2, use_sliding_window: true })).toThrow(
      expect.objectContaining({ field: 'sliding_window' }),
    );
  });

  test.each([
    ['hidden_size', { hidden_size: undefined }],
    ['hidden_size', { hidden_size: -1 }],
    ['vocab_size', { vocab_size: 1.5 }],
    ['num_hidden_layers', { num_hidden_layers: '3' }],
    ['num_key_value_heads', { num_key_value_heads: 4 }],
    ['num_attention_heads', { hidden_size: 100 }],
    ['head_dim', { head_dim: 15 }],
    ['rms_norm_eps', { rms_norm_eps: 0 }],
    ['tie_word_embeddings', { tie_word_embeddings: 'yes' }],
  ])('names %s when it is missing or malformed', (field, change) => {
    expect(() => parseModelConfig({ ...LLAMA, ...change })).toThrow(
      expect.objectContaining({ code: 'BACKBONE_INVALID', field }),
    );
  });
});
