package main

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// misfits lists what of a YAML tree does not fit the type t: keys without a
// field, with what there is instead, and texts that their type does not read. Each
// has its path and line.
func misfits(n *yaml.Node, t reflect.Type, path string) (errs []error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.Kind == yaml.DocumentNode || n.Kind == yaml.AliasNode {
		if n.Kind == yaml.AliasNode {
			return misfits(n.Alias, t, path)
		}
		for _, c := range n.Content {
			errs = append(errs, misfits(c, t, path)...)
		}
		return errs
	}
	if v, ok := reflect.TypeAssert[encoding.TextUnmarshaler](reflect.New(t)); ok {
		if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
			if err := v.UnmarshalText([]byte(n.Value)); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w (line %d)", path, err, n.Line))
			}
		}
		return errs
	}
	switch {
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		for i, c := range n.Content {
			errs = append(errs, misfits(c, t.Elem(), fmt.Sprintf("%s[%d]", path, i))...)
		}
	case t.Kind() == reflect.Map && n.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			errs = append(errs, misfits(n.Content[i+1], t.Elem(), join(path, n.Content[i].Value))...)
		}
	case t.Kind() == reflect.Struct && n.Kind == yaml.MappingNode:
		fields := yamlFields(t)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			f, ok := fields[key.Value]
			if !ok {
				names := make([]string, 0, len(fields))
				for name := range fields {
					names = append(names, name)
				}
				slices.Sort(names)
				errs = append(errs, fmt.Errorf("%s: no such key (line %d); there are %s", join(path, key.Value), key.Line, strings.Join(names, ", ")))
				continue
			}
			errs = append(errs, misfits(n.Content[i+1], f, join(path, key.Value))...)
		}
	}
	return errs
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// yamlFields are the keys of a struct and their types.
func yamlFields(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			fields[name] = f.Type
		}
	}
	return fields
}
