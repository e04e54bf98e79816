package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"weir/detectors"
)

// configChange is one value that two configurations have differently: "" is not
// set. Secrets are not shown.
type configChange struct {
	Path string `json:"path"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// diffFiles compares two configuration files as they are written; "" is none.
func diffFiles(old, now string) ([]configChange, error) {
	a, err := readSmall(old)
	if err != nil {
		return nil, err
	}
	b, err := readSmall(now)
	if err != nil {
		return nil, err
	}
	return diffConfigs(a, b)
}

// diffConfigs compares two configuration texts, by path.
func diffConfigs(old, now []byte) ([]configChange, error) {
	a, err := flatConfig(old)
	if err != nil {
		return nil, err
	}
	b, err := flatConfig(now)
	if err != nil {
		return nil, err
	}
	var list []configChange
	for path, v := range a {
		if b[path] != v {
			list = append(list, configChange{path, masked(path, v), masked(path, b[path])})
		}
	}
	for path, v := range b {
		if _, both := a[path]; !both {
			list = append(list, configChange{path, "", masked(path, v)})
		}
	}
	slices.SortFunc(list, func(x, y configChange) int { return cmp.Compare(x.Path, y.Path) })
	return list, nil
}

// flatConfig is the values of a configuration by their paths. The entries of a
// list are named by what names them, so that moving one is no change to the rest.
func flatConfig(data []byte) (map[string]string, error) {
	var tree any
	if strings.TrimSpace(string(data)) != "" {
		if err := yaml.Load(data, &tree); err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
	}
	flat := map[string]string{}
	flatten(flat, "", tree)
	for path, v := range flat {
		if v == string(detectors.ModeOn) && strings.HasPrefix(path, "detect.") && strings.HasSuffix(path, ".mode") {
			delete(flat, path) // as without a word about it
		}
	}
	return flat, nil
}

func flatten(into map[string]string, path string, v any) {
	switch v := v.(type) {
	case nil:
	case map[string]any:
		for name, member := range v {
			p := name
			if path != "" {
				p = path + "." + name
			}
			flatten(into, p, member)
		}
	case map[any]any:
		for name, member := range v {
			flatten(into, strings.TrimPrefix(fmt.Sprintf("%s.%v", path, name), "."), member)
		}
	case []any:
		flattenList(into, path, v)
	default:
		into[path] = fmt.Sprint(v)
	}
}

func flattenList(into map[string]string, path string, list []any) {
	var plain []string
	taken := map[string]bool{}
	for i, e := range list {
		m, ok := e.(map[string]any)
		if !ok {
			plain = append(plain, fmt.Sprint(e))
			continue
		}
		name := fmt.Sprint(i)
		for _, key := range []string{"match", "name", "id", "file"} {
			if s, ok := m[key].(string); ok && !taken[s] {
				name = s
				break
			}
		}
		taken[name] = true
		flatten(into, path+"["+name+"]", e)
	}
	if len(plain) > 0 {
		into[path] = strings.Join(plain, ", ")
	}
}

// masked is a value as it may be shown: what stands behind a name like token, and
// of addresses what could hold one, is not.
func masked(path, value string) string {
	if value == "" {
		return ""
	}
	name := path[strings.LastIndexByte(path, '.')+1:]
	switch {
	case strings.HasSuffix(name, "_file"):
		return value
	case strings.Contains(path, ".headers."):
		return "<secret>"
	case name == "url" || strings.HasSuffix(name, "_url"):
		return maskedURL(value)
	}
	for _, word := range []string{"secret", "token", "password", "routing_key", "shared_key", "authorization", "api_key"} {
		if name == word || strings.HasSuffix(name, "_"+word) || strings.HasPrefix(name, word+"_") && word == "secret" {
			return "<secret>"
		}
	}
	return value
}

// maskedURL keeps the scheme and the host: paths of web hooks are secrets.
func maskedURL(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return "<secret>"
	}
	host, _, long := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		host = host[i+1:]
	}
	if long {
		host += "/..."
	}
	return scheme + "://" + host
}

// unit is a part of the configuration that alerts depend on and that differs: a
// detector's settings, an endpoint, a known client.
type unit struct {
	path    string
	changes []configChange
}

// unitsOf gathers the changes that alerts depend on. Those that stored requests
// cannot show are left out.
func unitsOf(changes []configChange, store bool) (list []unit) {
	for _, c := range changes {
		path := unitPath(c.Path)
		if path == "" || store && (strings.HasPrefix(path, "identity.trusted") || strings.HasPrefix(path, "identity.internal") || path == "identity.api_key_prefix" || strings.HasPrefix(path, "collect")) {
			continue
		}
		i := slices.IndexFunc(list, func(u unit) bool { return u.path == path })
		if i < 0 {
			i = len(list)
			list = append(list, unit{path: path})
		}
		list[i].changes = append(list[i].changes, c)
	}
	return list
}

// unitPath is the unit that a path belongs to, "" for one that no alert depends on.
func unitPath(path string) string {
	if strings.HasPrefix(path, "detect.") {
		// detect.FAMILY.NAME.setting
		parts := strings.SplitN(path, ".", 4)
		return strings.Join(parts[:min(3, len(parts))], ".")
	}
	root, _, _ := strings.Cut(path, ".")
	root, _, _ = strings.Cut(root, "[")
	switch root {
	case "endpoints", "identity", "context", "collect":
	case "alerts":
		rest := strings.TrimPrefix(path, "alerts.")
		if !slices.ContainsFunc([]string{"max_", "budget", "suppressions", "maintenance"}, func(p string) bool { return strings.HasPrefix(rest, p) }) {
			return ""
		}
	default:
		return ""
	}
	if i := strings.LastIndexByte(path, ']'); i >= 0 {
		return path[:i+1]
	}
	return path
}

// text is the unit's change in a line.
func (u *unit) text() string {
	added, removed := true, true
	var parts []string
	for _, c := range u.changes {
		added, removed = added && c.Old == "", removed && c.New == ""
		parts = append(parts, fmt.Sprintf("%s %s → %s", strings.TrimPrefix(strings.TrimPrefix(c.Path, u.path), "."), cmp.Or(c.Old, "unset"), cmp.Or(c.New, "unset")))
	}
	switch {
	case strings.HasSuffix(u.path, "]") && added:
		return u.path + " is new"
	case strings.HasSuffix(u.path, "]") && removed:
		return u.path + " is gone"
	case len(parts) == 1 && u.changes[0].Path == u.path:
		return u.path + ": " + strings.TrimSpace(parts[0])
	case strings.HasPrefix(u.path, "detect.") && len(parts) == 1:
		return u.changes[0].Path + ": " + cmp.Or(u.changes[0].Old, "on") + " → " + cmp.Or(u.changes[0].New, "on")
	}
	return u.path + ": " + strings.Join(parts, ", ")
}
