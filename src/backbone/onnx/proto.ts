import protobuf from 'protobufjs';

/**
 * The part of ONNX's public schema (onnx.proto3, IR version 10) that a graph with external weights needs.
 * Field numbers are those of the standard; anything left out is optional there.
 */
const ONNX_SCHEMA = `
syntax = "proto3";
package onnx;
message AttributeProto {
  string name = 1; float f = 2; int64 i = 3; bytes s = 4; repeated float floats = 7; repeated int64 ints = 8;
  int32 type = 20;
}
message ValueInfoProto { string name = 1; TypeProto type = 2; }
message NodeProto {
  repeated string input = 1; repeated string output = 2; string name = 3; string op_type = 4;
  repeated AttributeProto attribute = 5; string domain = 7;
}
message StringStringEntryProto { string key = 1; string value = 2; }
message TensorProto {
  repeated int64 dims = 1; int32 data_type = 2; string name = 8; bytes raw_data = 9;
  repeated StringStringEntryProto external_data = 13; int32 data_location = 14;
}
message TensorShapeProto {
  message Dimension { oneof value { int64 dim_value = 1; string dim_param = 2; } }
  repeated Dimension dim = 1;
}
message TypeProto {
  message Tensor { int32 elem_type = 1; TensorShapeProto shape = 2; }
  oneof value { Tensor tensor_type = 1; }
}
message GraphProto {
  repeated NodeProto node = 1; string name = 2; repeated TensorProto initializer = 5;
  repeated ValueInfoProto input = 11; repeated ValueInfoProto output = 12;
}
message OperatorSetIdProto { string domain = 1; int64 version = 2; }
message ModelProto {
  int64 ir_version = 1; repeated OperatorSetIdProto opset_import = 8; string producer_name = 2;
  GraphProto graph = 7;
}
`;

const modelType = protobuf.parse(ONNX_SCHEMA, { keepCase: true }).root.lookupType('onnx.ModelProto');

/** ONNX element types that the graphs use. */
export const ELEMENT_TYPES = { float32: 1, uint8: 2, int8: 3, int64: 7, float16: 10 } as const;
export type ElementType = keyof typeof ELEMENT_TYPES;

/** A dimension: a fixed size or a symbolic name. */
export type Dim = number | string;

export interface NodeSpec {
  readonly op: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** An attribute; floats are marked, since 1 and 1.0 differ in ONNX and not in JavaScript. */
export type Attribute =
  | { readonly int: number }
  | { readonly float: number }
  | { readonly text: string }
  | { readonly ints: readonly number[] };

export interface ValueSpec {
  readonly name: string;
  readonly type: ElementType;
  readonly dims: readonly Dim[];
}

/** Where an initializer's bytes are: in the model itself (small ones) or in the external data file. */
export interface InitializerSpec {
  readonly name: string;
  readonly type: ElementType;
  readonly dims: readonly number[];
  readonly data:
    | { readonly inline: Uint8Array }
    | { readonly file: string; readonly offset: number; readonly length: number };
}

export interface GraphSpec {
  readonly nodes: readonly NodeSpec[];
  readonly inputs: readonly ValueSpec[];
  readonly outputs: readonly ValueSpec[];
  readonly initializers: readonly InitializerSpec[];
}

/** The domain of ONNX Runtime's own operators. */
export const MS_DOMAIN = 'com.microsoft';

/** Serialises a graph as an ONNX model of opset 21. */
export function encodeModel(graph: GraphSpec): Uint8Array {
  const value = (spec: ValueSpec): object => ({
    name: spec.name,
    type: {
      tensor_type: {
        elem_type: ELEMENT_TYPES[spec.type],
        shape: {
          dim: spec.dims.map((dim) => (typeof dim === 'string' ? { dim_param: dim } : { dim_value: dim })),
        },
      },
    },
  });
  const message = modelType.create({
    ir_version: 10,
    producer_name: 'patchbay',
    opset_import: [
      { domain: '', version: 21 },
      { domain: MS_DOMAIN, version: 1 },
    ],
    graph: {
      name: 'backbone',
      node: graph.nodes.map((node, index) => ({
        input: node.inputs,
        output: node.outputs,
        name: `${node.op}_${index}`,
        op_type: node.op,
        domain: node.domain,
        attribute: Object.entries(node.attributes).map(([name, attribute]) =>
          encodeAttribute(name, attribute),
        ),
      })),
      initializer: graph.initializers.map((tensor) => ({
        dims: tensor.dims,
        data_type: ELEMENT_TYPES[tensor.type],
        name: tensor.name,
        ...('inline' in tensor.data
          ? { raw_data: tensor.data.inline }
          : {
              data_location: 1,
              external_data: [
                { key: 'location', value: tensor.data.file },
                { key: 'offset', value: String(tensor.data.offset) },
                { key: 'length', value: String(tensor.data.length) },
              ],
            }),
      })),
      input: graph.inputs.map(value),
      output: graph.outputs.map(value),
    },
  });
  return modelType.encode(message).finish();
}

function encodeAttribute(name: string, attribute: Attribute): object {
  if ('int' in attribute) return { name, type: 2, i: attribute.int };
  if ('float' in attribute) return { name, type: 1, f: attribute.float };
  if ('text' in attribute) return { name, type: 3, s: Buffer.from(attribute.text) };
  return { name, type: 7, ints: attribute.ints };
}

/**
 * Lets a model read its weights from where another one has them, initializer by initializer with the same name.
 * @param model a model as {@link encodeModel} writes it
 * @param source a model with the same weights, which may say more about each than where it is: how it is packed
 * @throws Error if the source lacks a weight
 */
export function withWeightsOf(model: Uint8Array, source: Uint8Array): Uint8Array {
  const places = new Map<string, unknown>();
  for (const { name, external_data } of initializersOf(decodeModel(source))) {
    if (Array.isArray(external_data) && external_data.length > 0) places.set(name, external_data);
  }
  const decoded = decodeModel(model);
  for (const tensor of initializersOf(decoded)) {
    if (!Array.isArray(tensor.external_data) || tensor.external_data.length === 0) continue;
    const place = places.get(tensor.name);
    if (place === undefined) throw new Error(`the source has no weight ${tensor.name} in a file`);
    tensor.external_data = place;
  }
  return modelType.encode(modelType.fromObject(decoded)).finish();
}

interface DecodedTensor {
  readonly name: string;
  external_data?: unknown;
}

function decodeModel(model: Uint8Array): Record<string, unknown> {
  return modelType.toObject(modelType.decode(model));
}

function initializersOf({ graph }: Record<string, unknown>): readonly DecodedTensor[] {
  if (typeof graph !== 'object' || graph === null || !('initializer' in graph)) return [];
  const { initializer } = graph;
  if (!Array.isArray(initializer)) return [];
  const tensors: readonly unknown[] = initializer;
  return tensors.filter(
    (tensor): tensor is DecodedTensor => typeof tensor === 'object' && tensor !== null && 'name' in tensor,
  );
}
