package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// value is one field of values.yaml with its comment.
type value struct {
	path        string
	key         string
	description string
	// extra is what the field's `@schema` comment adds to its schema.
	extra    map[string]any
	node     *yaml.Node
	children []value
}

// marker is the prefix of a comment line with JSON for the field's schema.
const marker = "@schema "

func readValues() ([]value, error) {
	raw, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		return nil, err
	}
	document := &yaml.Node{}
	if err := yaml.Unmarshal(raw, document); err != nil {
		return nil, fmt.Errorf("values.yaml: %w", err)
	}
	return fields(document.Content[0], "")
}

func fields(mapping *yaml.Node, prefix string) ([]value, error) {
	var all []value
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, node := mapping.Content[i], mapping.Content[i+1]
		v := value{path: prefix + key.Value, key: key.Value, node: node}
		var words []string
		for line := range strings.SplitSeq(key.HeadComment, "\n") {
			line = strings.TrimSpace(strings.TrimPrefix(line, "#"))
			if text, ok := strings.CutPrefix(line, marker); ok {
				if err := json.Unmarshal([]byte(text), &v.extra); err != nil {
					return nil, fmt.Errorf("values.yaml: %s: @schema: %w", v.path, err)
				}
				continue
			}
			words = append(words, line)
		}
		v.description = strings.TrimSpace(strings.Join(words, " "))
		if v.description == "" {
			return nil, fmt.Errorf("values.yaml: %s has no comment", v.path)
		}
		// A map with a schema of its own is one value, because the user chooses its keys.
		if node.Kind == yaml.MappingNode && len(node.Content) > 0 && v.extra == nil {
			children, err := fields(node, v.path+".")
			if err != nil {
				return nil, err
			}
			v.children = children
		}
		all = append(all, v)
	}
	return all, nil
}

func schema() ([]byte, error) {
	values, err := readValues()
	if err != nil {
		return nil, err
	}
	root := object(values)
	root["$schema"] = "http://json-schema.org/draft-07/schema#"
	properties, _ := root["properties"].(map[string]any)
	// Helm sets it.
	properties["global"] = map[string]any{"type": "object"}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(root); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func object(values []value) map[string]any {
	properties := map[string]any{}
	for _, v := range values {
		property := map[string]any{}
		switch {
		case v.children != nil:
			property = object(v.children)
		case v.node.Kind == yaml.MappingNode:
			property["type"] = "object"
		case v.node.Kind == yaml.SequenceNode:
			property["type"] = "array"
		default:
			property["type"] = map[string]string{"!!bool": "boolean", "!!int": "integer", "!!str": "string"}[v.node.Tag]
		}
		property["description"] = v.description
		maps.Copy(property, v.extra)
		properties[v.key] = property
	}
	return map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
}

func readme() ([]byte, error) {
	values, err := readValues()
	if err != nil {
		return nil, err
	}
	head, err := os.ReadFile(filepath.Join("hack/chart", "readme.md"))
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.Write(head)
	b.WriteString("\n| value | default | meaning |\n|---|---|---|\n")
	if err := rows(&b, values); err != nil {
		return nil, err
	}
	return []byte(b.String()), nil
}

func rows(b *strings.Builder, values []value) error {
	for _, v := range values {
		if v.children != nil {
			if err := rows(b, v.children); err != nil {
				return err
			}
			continue
		}
		var plain any
		if err := v.node.Decode(&plain); err != nil {
			return fmt.Errorf("values.yaml: %s: %w", v.path, err)
		}
		text, err := json.Marshal(plain)
		if err != nil {
			return fmt.Errorf("values.yaml: %s: %w", v.path, err)
		}
		fmt.Fprintf(b, "| `%s` | `%s` | %s |\n", v.path, text, strings.ReplaceAll(v.description, "|", "\\|"))
	}
	return nil
}
