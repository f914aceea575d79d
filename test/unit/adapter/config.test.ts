import { describe, expect, it } from 'vitest';
import { DEFAULT_ADAPTER_LIMITS } from '../../../src/adapter/limits.ts';
import { parseAdapterConfig } from '../../../src/adapter/peft/config.ts';
import { configJson } from './sample.ts';

const parse = (changes: Readonly<Record<string, unknown>> = {}) =>
  parseAdapterConfig(configJson(changes), DEFAULT_ADAPTER_LIMITS);
const parseText = (text: string) => parseAdapterConfig(Buffer.from(text), DEFAULT_ADAPTER_LIMITS);
const coded = (code: string, field?: string) =>
  expect.objectContaining(field === undefined ? { code } : { code, field });

describe('parseAdapterConfig', () => {
  it('reads what PEFT writes', () => {
    expect(parse({ lora_alpha: 0.5, use_rslora: true })).toMatchObject({
      r: 2,
      loraAlpha: 0.5,
      useRslora: true,
    });
  });

  it('keeps patterns in the order of the file, integer-like keys included', () => {
    const text = Buffer.from(configJson())
      .toString()
      .replace('"rank_pattern":{}', '"rank_pattern":{"b":3,"1":4,"a":5}');
    expect(parseText(text).rankPattern.map(({ pattern, value }) => [pattern.key, value])).toEqual([
      ['b', 3],
      ['1', 4],
      ['a', 5],
    ]);
  });

  it.each([
    [{ target_modules: 'all-linear' }],
    [{ target_modules: '.*\\.(q|v)_proj' }],
    [{ target_modules: '(a+)+$' }],
    [{ target_modules: null }],
    [{ exclude_modules: ['o_proj'] }],
    [{ exclude_modules: '.*k_proj' }],
    [{ layers_to_transform: 1 }],
    [{ layers_to_transform: [0, 1], layers_pattern: 'layers' }],
    [{ layers_to_transform: [0], layers_pattern: ['layers'] }],
    [{ init_lora_weights: 'gaussian' }],
    [{ init_lora_weights: 'eva', eva_config: { rho: 2 } }],
    [{ loftq_config: { loftq_bits: 4 } }],
    [{ task_type: null }],
    [{ modules_to_save: [] }],
    [{ auto_mapping: { base_model_class: 'X' } }],
    [{ future_switch: false, future_list: [], future_map: {}, future_text: '' }],
  ])('accepts %j, which changes nothing at inference', (changes) => {
    expect(() => parse(changes)).not.toThrow();
  });

  it.each([
    ['use_dora', true],
    ['modules_to_save', ['lm_head']],
    ['lora_bias', true],
    ['bias', 'all'],
    ['bias', 'lora_only'],
    ['fan_in_fan_out', true],
    ['peft_type', 'LOHA'],
    ['peft_type', 'ADALORA'],
    ['trainable_token_indices', [1, 2]],
    ['trainable_token_indices', { embed_tokens: [1] }],
    ['layer_replication', [[0, 1]]],
    ['target_parameters', ['mlp.experts.gate_up_proj']],
    ['alora_invocation_tokens', [1]],
    ['use_qalora', true],
    ['use_bdlora', { nblocks: 2 }],
    ['arrow_config', { top_k: 3 }],
    ['megatron_config', { a: 1 }],
    ['init_lora_weights', 'pissa'],
    ['init_lora_weights', 'pissa_niter_16'],
    ['init_lora_weights', 'olora'],
    ['init_lora_weights', 'corda'],
    ['init_lora_weights', 'lora_ga'],
    ['init_lora_weights', 'loftq'],
    ['task_type', 'SEQ_CLS'],
    ['new_mathematics', true],
    ['new_mathematics', 0],
    ['new_mathematics', 'on'],
    ['rank_pattern', { '(?=a)': 2 }],
    ['alpha_pattern', { '(a)\\1': 2 }],
  ])('refuses %s = %j by name', (field, value) => {
    expect(() => parse({ [field]: value })).toThrowError(coded('ADAPTER_UNSUPPORTED', field));
    try {
      parse({ [field]: value });
    } catch (error) {
      expect(error).toMatchObject({ message: expect.stringContaining(field) });
    }
  });

  it.each([
    ['r', 0],
    ['r', 2.5],
    ['r', '8'],
    ['r', null],
    ['lora_alpha', null],
    ['lora_alpha', '16'],
    ['use_rslora', 'yes'],
    ['use_dora', 'true'],
    ['target_modules', 3],
    ['target_modules', [1]],
    ['layers_to_transform', -1],
    ['layers_to_transform', 'all'],
    ['layers_pattern', 1],
    ['exclude_modules', { a: 1 }],
    ['rank_pattern', []],
    ['rank_pattern', { q_proj: 0 }],
    ['rank_pattern', { q_proj: '4' }],
    ['alpha_pattern', { q_proj: null }],
    ['bias', 1],
    ['task_type', 1],
    ['peft_type', null],
  ])('calls %s = %j malformed', (field, value) => {
    expect(() => parse({ [field]: value })).toThrowError(coded('ADAPTER_CONFIG_INVALID'));
  });

  it('refuses a key that occurs twice, because readers disagree on which one counts', () => {
    const text = Buffer.from(configJson()).toString().replace('{', '{"r":64,');
    expect(() => parseText(text)).toThrowError(coded('ADAPTER_CONFIG_INVALID', 'r'));
  });

  it.each(['', '[]', 'null', '{', '{"peft_type":"LORA"} x', '\ufeff{}'])('calls %j malformed', (text) => {
    expect(() => parseText(text)).toThrowError(coded('ADAPTER_CONFIG_INVALID'));
  });

  it('bounds the size of the file', () => {
    const limits = { ...DEFAULT_ADAPTER_LIMITS, maxConfigBytes: 100 };
    expect(() => parseAdapterConfig(configJson(), limits)).toThrowError(coded('FILE_TOO_LARGE'));
  });

  it('bounds the patterns together', () => {
    const many = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`(x{100})${i}`, 1]));
    expect(() => parse({ rank_pattern: many })).toThrowError(coded('ADAPTER_UNSUPPORTED', 'rank_pattern'));
  });
});
