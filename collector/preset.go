package collector

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// A preset is the map of one kind of JSON log: a file in presets/ named like the
// format, and no code.
//
//	describe Cloudflare Logpush, http_requests     one sentence for people
//	known    RayID ClientIP|ClientIp               members that tell it from others; all of them, | for either
//	where    category FrontDoorAccessLog           only objects whose member has one of these values are requests
//	status   EdgeResponseStatus OriginStatus       weir's field, then the members that hold it, the best first
//
// Dots go between nested names, in every way that they can be read; [] behind a
// name is an array of objects with a name and a value: headers[].user-agent. What
// a preset does not name it does not read. The fields are those of CompileJSON
// and the ones of presetFields.

//go:embed presets/*.txt
var presetFiles embed.FS

type preset struct {
	name, describe string
	known          []string
	where          []string // values of the member with slotWhere, in lower case; nil for all
	root           *jsonNode
}

// presetFields lists the fields that only presets know.
func presetFields() []jsonName {
	return []jsonName{
		{slotPath, "route"}, // a path that is a template, or has no query
		{slotServerName, "server_name"},
		{slotStatusFirst, "origin_status"},
		{slotBytesSent, "bytes_sent"},
		{slotPeer, "peer"},
		{slotJWT, "jwt_payload"},
		{slotEnvoyFlags, "response_flags"},
		{slotAgentEncoded, "agent_encoded"},
		{slotRefererEncoded, "referer_encoded"},
	}
}

// presets reads the files. They are part of the program and a test reads them,
// so an error is a panic.
func presets() []preset {
	names, err := fs.Glob(presetFiles, "presets/*.txt")
	if err != nil {
		panic(err)
	}
	var list []preset
	for _, name := range names {
		text, err := presetFiles.ReadFile(name)
		if err != nil {
			panic(err)
		}
		p, err := compilePreset(strings.TrimSuffix(strings.TrimPrefix(name, "presets/"), ".txt"), string(text))
		if err != nil {
			panic(err)
		}
		list = append(list, p)
	}
	return list
}

func compilePreset(name, text string) (preset, error) {
	p := preset{name: name, root: &jsonNode{}}
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		members := strings.Fields(rest)
		switch {
		case word == "" || word[0] == '#':
			continue
		case len(members) == 0:
			return p, fmt.Errorf("preset %s: nothing follows %q", name, word)
		case word == "describe":
			p.describe = strings.TrimSpace(rest)
			continue
		case word == "known":
			p.known = members
			continue
		case word == "where":
			p.root.add(members[0], slotWhere, 0)
			for _, v := range members[1:] {
				p.where = append(p.where, strings.ToLower(v))
			}
			continue
		}
		s, ok := jsonField(word)
		if !ok {
			i := slices.IndexFunc(presetFields(), func(e jsonName) bool { return e.names == word })
			if i < 0 {
				return p, fmt.Errorf("preset %s: weir has no field %q", name, word)
			}
			s = presetFields()[i].slot
		}
		for i, m := range members {
			p.root.addPairs(m, s, uint8(min(i+1, 200)))
		}
	}
	if p.describe == "" || len(p.known) == 0 {
		return p, fmt.Errorf("preset %s: it needs describe and known", name)
	}
	return p, nil
}

// addPairs is add for paths that may have one [] in them.
func (n *jsonNode) addPairs(path string, s slot, rank uint8) {
	list, name, ok := strings.Cut(path, "[].")
	if !ok {
		n.add(path, s, rank)
		return
	}
	n.add(list+"."+name, s, rank)
	for part := range strings.SplitSeq(strings.ToLower(list), ".") {
		n = n.kid(part)
	}
	n.pairs = true
	n.add(name, s, rank)
}

// format returns the preset as a format; members that opt.Map names come first.
func (p preset) format(opt ParseOptions) Format {
	return Format{
		Name:     p.name,
		Describe: p.describe,
		Arrays:   true,
		New: func() Parser {
			return &jsonParser{root: p.root, where: p.where, clock: newClock(opt.Location)}
		},
		ClientPrefix: func(line []byte) []byte { return jsonClient(p.root, line) },
	}
}

// presetsFor returns the presets whose members most of the objects among lines
// have.
func presetsFor(opt ParseOptions, lines [][]byte) []Format {
	var objects []map[string]any
	for _, l := range lines {
		var o map[string]any
		if len(l) > 0 && l[0] == '{' && json.Unmarshal(l, &o) == nil {
			objects = append(objects, o)
		}
	}
	if len(objects) == 0 {
		return nil
	}
	var list []Format
	for _, p := range presets() {
		n := 0
		for _, o := range objects {
			if p.fits(o) {
				n++
			}
		}
		if n*2 > len(objects) {
			list = append(list, p.format(opt))
		}
	}
	return list
}

// fits tells whether o has all members that p is known by.
func (p preset) fits(o map[string]any) bool {
	return !slices.ContainsFunc(p.known, func(either string) bool {
		for path := range strings.SplitSeq(either, "|") {
			if hasMember(o, path) {
				return false
			}
		}
		return true
	})
}

// hasMember looks for a path, its dots read in every way.
func hasMember(o map[string]any, path string) bool {
	if _, ok := o[path]; ok {
		return true
	}
	for i := range path {
		if path[i] != '.' {
			continue
		}
		switch v := o[path[:i]].(type) {
		case map[string]any:
			if hasMember(v, path[i+1:]) {
				return true
			}
		case []any:
			for _, e := range v[:min(len(v), maxElements)] {
				if pair, ok := e.(map[string]any); ok && (pair["key"] == path[i+1:] || pair["name"] == path[i+1:]) {
					return true
				}
			}
		}
	}
	return false
}
