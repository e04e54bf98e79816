// Package schemas checks what alerts look like outside against the schemas that
// others published: it is for tests alone.
package schemas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Set holds the schemas.
type Set struct {
	finding *jsonschema.Schema
	tree    map[string]any // of finding, with its captions
	fields  map[string]field
}

// field is one field of ECS.
type field struct {
	Type    string   `json:"type"`
	Array   bool     `json:"array"`
	Allowed []string `json:"allowed"`
	Ignore  int      `json:"ignore_above"`

	Expected map[string][]string `json:"expected_event_types"`
}

// Open reads the schemas from dir; the error is os.ErrNotExist where they are
// not.
func Open(dir string) (*Set, error) {
	data, err := os.ReadFile(filepath.Join(dir, "ocsf_detection_finding.schema.json"))
	if err != nil {
		return nil, fmt.Errorf("open schemas: %w", err)
	}
	s := &Set{}
	if err := json.Unmarshal(data, &s.tree); err != nil {
		return nil, fmt.Errorf("open schemas: %w", err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("open schemas: %w", err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("finding.json", doc); err != nil {
		return nil, fmt.Errorf("open schemas: %w", err)
	}
	if s.finding, err = c.Compile("finding.json"); err != nil {
		return nil, fmt.Errorf("open schemas: %w", err)
	}
	if data, err = os.ReadFile(filepath.Join(dir, "ecs_fields.json")); err != nil {
		return nil, fmt.Errorf("open schemas: %w", err)
	}
	var list struct {
		Fields map[string]field `json:"fields"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("open schemas: %w", err)
	}
	s.fields = list.Fields
	return s, nil
}

// OCSF checks one Detection Finding of 1.8.0, captions too.
func (s *Set) OCSF(line []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	if err != nil {
		return fmt.Errorf("read finding: %w", err)
	}
	if err := s.finding.Validate(doc); err != nil {
		return fmt.Errorf("%w", err)
	}
	return s.captions("", doc, s.tree)
}

// captions compares every X beside an X_id with the caption of the number.
func (s *Set) captions(at string, doc any, schema map[string]any) error {
	for {
		ref, ok := schema["$ref"].(string)
		if !ok {
			break
		}
		defs, _ := s.tree["$defs"].(map[string]any)
		schema, _ = defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
	}
	switch v := doc.(type) {
	case []any:
		items, _ := schema["items"].(map[string]any)
		for i, x := range v {
			if err := s.captions(fmt.Sprintf("%s[%d]", at, i), x, items); err != nil {
				return err
			}
		}
	case map[string]any:
		props, _ := schema["properties"].(map[string]any)
		for name, x := range v {
			p, _ := props[name].(map[string]any)
			if captions, ok := p["x-captions"].(map[string]any); ok {
				if err := sibling(v, name, captions); err != nil {
					return fmt.Errorf("%s: %w", at, err)
				}
			}
			if p != nil {
				if err := s.captions(at+"."+name, x, p); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func sibling(o map[string]any, id string, captions map[string]any) error {
	want, _ := captions[fmt.Sprint(o[id])].(string)
	base := strings.TrimSuffix(strings.TrimSuffix(id, "_id"), "_uid")
	for _, name := range []string{base, base + "_name"} {
		if got, ok := o[name].(string); ok && got != want {
			return fmt.Errorf("%s is %q beside %s %v, want %q", name, got, id, o[id], want)
		}
	}
	return nil
}

// ECS checks one document: every path is a field of ECS with a value of its type,
// or below own; it is an alert that Elastic's own rule promotes.
func (s *Set) ECS(line []byte, own string) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var doc map[string]any
	if err := d.Decode(&doc); err != nil {
		return fmt.Errorf("read document: %w", err)
	}
	flat := map[string]any{}
	s.flatten("", doc, flat)
	paths := make([]string, 0, len(flat))
	for p := range flat {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	var errs []error
	for _, p := range paths {
		if p == own || strings.HasPrefix(p, own+".") {
			continue
		}
		if f, ok := s.fields[p]; !ok {
			errs = append(errs, fmt.Errorf("%s is no field of ECS", p))
		} else if err := f.check(flat[p]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p, err))
		}
	}
	if flat["event.kind"] != "alert" {
		errs = append(errs, fmt.Errorf("event.kind is %v, want alert", flat["event.kind"]))
	}
	if sev := fmt.Sprint(flat["event.severity"]); !slices.Contains([]string{"21", "47", "73", "99"}, sev) {
		errs = append(errs, fmt.Errorf("event.severity is %s, which Elastic maps to nothing", sev))
	}
	for _, must := range []string{"@timestamp", "ecs.version", "message", "event.category", "event.type", "rule.name", "data_stream.dataset"} {
		if flat[must] == nil {
			errs = append(errs, fmt.Errorf("%s is missing", must))
		}
	}
	return errors.Join(append(errs, s.eventTypes(flat))...)
}

// eventTypes: each type suits each category.
func (s *Set) eventTypes(flat map[string]any) error {
	categories, _ := flat["event.category"].([]any)
	types, _ := flat["event.type"].([]any)
	for _, c := range categories {
		for _, t := range types {
			if !slices.Contains(s.fields["event.category"].Expected[fmt.Sprint(c)], fmt.Sprint(t)) {
				return fmt.Errorf("event.type %v does not go with event.category %v", t, c)
			}
		}
	}
	return nil
}

// flatten writes o as dotted paths; what ECS calls an object stays one.
func (s *Set) flatten(at string, o map[string]any, out map[string]any) {
	for k, v := range o {
		path := strings.TrimPrefix(at+"."+k, ".")
		if inner, ok := v.(map[string]any); ok && s.fields[path].Type == "" {
			s.flatten(path, inner, out)
		} else {
			out[path] = v
		}
	}
}

func (f *field) check(v any) error {
	list, isList := v.([]any)
	if isList != f.Array {
		return fmt.Errorf("is a list: %t, want %t", isList, f.Array)
	}
	if !isList {
		list = []any{v}
	}
	for _, x := range list {
		if err := f.value(x); err != nil {
			return err
		}
	}
	return nil
}

func (f *field) value(v any) error {
	if n, ok := v.(json.Number); ok {
		_, err := n.Int64()
		if f.Type != "float" && (f.Type != "long" || err != nil) {
			return fmt.Errorf("%s is no %s", n, f.Type)
		}
		return nil
	}
	if o, ok := v.(map[string]any); ok {
		if f.Type != "object" && f.Type != "flattened" {
			return fmt.Errorf("is an object, want %s", f.Type)
		}
		for k, x := range o { // labels: scalars, and no dot that would make objects
			if _, scalar := x.(string); !scalar || strings.Contains(k, ".") {
				return fmt.Errorf("%s is no label", k)
			}
		}
		return nil
	}
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("%v is no %s", v, f.Type)
	}
	var err error
	switch f.Type {
	case "date":
		_, err = time.Parse(time.RFC3339Nano, s)
	case "ip":
		_, err = netip.ParseAddr(s)
	case "keyword":
		if len(f.Allowed) > 0 && !slices.Contains(f.Allowed, s) {
			err = fmt.Errorf("%q is none of %v", s, f.Allowed)
		} else if f.Ignore > 0 && len(s) > f.Ignore {
			err = fmt.Errorf("has %d characters, and is not indexed over %d", len(s), f.Ignore)
		}
	case "constant_keyword", "wildcard", "match_only_text", "text":
	default:
		err = fmt.Errorf("%q is no %s", s, f.Type)
	}
	return err
}
