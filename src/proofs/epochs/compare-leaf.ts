const MICROSECONDS = (column: string): string => `(extract(epoch FROM ${column}) * 1000000)::bigint::text`;
const DIGEST = (version: string): string =>
  `coalesce((SELECT d.digest FROM document d WHERE d.id = c.${version}), '')`;
const TEXT = (column: string): string => `coalesce(c.${column}::text, '')`;

/** Fields of a request, and of each of its parts: docs/reference/proofs.md, which this follows for itself. */
const REQUEST_FIELDS = 16;
const PART_FIELDS = 17;

/**
 * Requests of `$1` whose receipts are not those of their records: a field that somebody can open says something else than the
 * record or has another commitment, the commitments are not the leaf's, or the log has another leaf. `$2` and `$3` are versions
 * of prices, royalties and splits with the digests of their documents, `$4` is the id of the log. Fields that were erased say
 * nothing, and are held against nobody.
 */
export const DIFFERING_LEAVES = `
WITH record AS (
  SELECT * FROM usage_record WHERE id = ANY ($1::uuid[])
), document AS (
  SELECT * FROM unnest($2::uuid[], $3::text[]) AS d(id, digest)
), share AS (
  SELECT * FROM usage_share WHERE request_id = ANY ($1::uuid[])
), charge AS (
  SELECT * FROM usage_charge WHERE request_id = ANY ($1::uuid[])
), part AS (
  SELECT r.id, s.adapter_version_id AS version_id, ARRAY[
      coalesce(s.adapter_version_id::text, ''), coalesce(encode(s.adapter_digest, 'hex'), ''),
      coalesce(encode(float8send(s.weight), 'hex'), ''), coalesce(s.share_numerator || '/' || s.share_denominator, '1/1'),
      coalesce(s.owner_tenant_id::text, ''), coalesce(n.lane || ':' || n.number, ''), ${TEXT('rank')},
      ${DIGEST('price_version')}, ${DIGEST('royalty_version')}, ${DIGEST('split_version')},
      ${['input_nano', 'cached_nano', 'output_nano', 'rank_nano', 'royalty_nano', 'fee_nano', 'total_nano'].map(TEXT).join(', ')}
    ] AS texts
  FROM record r
  LEFT JOIN share s ON s.request_id = r.id
  LEFT JOIN charge c ON c.request_id = r.id AND c.adapter_version_id IS NOT DISTINCT FROM s.adapter_version_id
  LEFT JOIN LATERAL (
    SELECT n.lane, n.number FROM receipt_number n
    WHERE n.tenant_id = s.owner_tenant_id AND n.kind = 'version' AND n.request_id = r.id
      AND n.subject_id = s.adapter_version_id OFFSET 0) n ON true
), parts AS (
  SELECT p.id, array_agg(p.texts ORDER BY p.version_id) AS texts, count(*) AS many FROM part p GROUP BY p.id
), expected AS MATERIALIZED (
  SELECT r.id, p.texts AS parts, p.many, ARRAY[
      r.tenant_id::text, n.lane || ':' || n.number, r.key_id::text, encode(r.backbone_digest, 'hex'), r.priority_class,
      r.prompt_tokens::text, r.cached_prompt_tokens::text, r.completion_tokens::text, encode(r.prompt_commitment, 'hex'),
      encode(r.output_commitment, 'hex'), ${MICROSECONDS('r.admitted_at')}, ${MICROSECONDS('r.ended_at')}, r.finish_reason,
      r.settled_by, coalesce(r.currency, ''), coalesce(r.amount_nano::text, '')
    ] AS texts
  FROM record r
  JOIN parts p ON p.id = r.id
  LEFT JOIN LATERAL (
    SELECT n.lane, n.number FROM receipt_number n
    WHERE n.tenant_id = r.tenant_id AND n.kind = 'tenant' AND n.request_id = r.id OFFSET 0) n ON true
), opened AS (
  SELECT v.request_id, v.commitments, v.salts, f.index, f.place,
         coalesce(f.text, '') AS text,
         CASE WHEN f.index < ${REQUEST_FIELDS} THEN e.texts[f.index + 1]
              ELSE e.parts[(f.index - ${REQUEST_FIELDS}) / ${PART_FIELDS} + 1][(f.index - ${REQUEST_FIELDS}) % ${PART_FIELDS} + 1]
         END AS expected
  FROM (
    -- Kept beside their rows, bytes would be fetched again for every field.
    SELECT v.request_id, v.fields, v.texts, v.salts || ''::bytea AS salts, c.commitments || ''::bytea AS commitments
    FROM receipt_view v JOIN receipt c ON c.request_id = v.request_id
    WHERE v.request_id = ANY ($1::uuid[]) AND c.request_id = ANY ($1::uuid[]) OFFSET 0
  ) v
  JOIN expected e ON e.id = v.request_id
  CROSS JOIN LATERAL unnest(v.fields, v.texts) WITH ORDINALITY AS f(index, text, place)
)
SELECT o.request_id AS id FROM opened o
WHERE o.text IS DISTINCT FROM o.expected
   OR substr(o.commitments, 32 * o.index + 1, 32) <> sha256(
        convert_to('patchbay:field:v1', 'UTF8') || '\\x00'::bytea || int2send(o.index)
          || substr(o.salts, 32 * o.place::integer - 31, 32) || convert_to(o.text, 'UTF8'))
UNION
SELECT e.id FROM expected e
LEFT JOIN receipt c ON c.request_id = e.id AND c.request_id = ANY ($1::uuid[])
LEFT JOIN log_leaf l ON l.entry_id = e.id AND l.entry_id = ANY ($1::uuid[])
WHERE (c.leaf = l.leaf_hash
   AND octet_length(c.commitments) = 32 * (${REQUEST_FIELDS} + ${PART_FIELDS} * e.many)
   AND c.leaf = sha256(
     '\\x00'::bytea || convert_to('patchbay:receipt:v1', 'UTF8') || '\\x00'::bytea || $4::bytea || uuid_send(e.id)
       || int2send((octet_length(c.commitments) / 32)::smallint) || c.commitments)) IS NOT TRUE`;
