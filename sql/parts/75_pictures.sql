/* Pictures of an instance. */

CREATE FUNCTION romancy.diagram(instance_id uuid, format text DEFAULT 'mermaid')
RETURNS text LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_diagram';
COMMENT ON FUNCTION romancy.diagram(uuid, text) IS 'An instance as a graph, in the language of Mermaid or of Graphviz (dot)';

CREATE FUNCTION romancy.timeline(instance_id uuid)
RETURNS text LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_timeline';
COMMENT ON FUNCTION romancy.timeline(uuid) IS 'An instance as a text Gantt chart';

CREATE FUNCTION romancy.spans(instance_id uuid)
RETURNS jsonb LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_spans';
COMMENT ON FUNCTION romancy.spans(uuid) IS 'An instance and its children as traces, in the JSON encoding of OTLP';
