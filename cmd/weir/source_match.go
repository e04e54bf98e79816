package main

import (
	"cmp"
	"path/filepath"
	"strings"
)

// sourceOf is the configured source that an input is a log of: the one whose file
// has its path, or was rotated to it, or whose glob matches; else the only one
// there is, whatever it is; nil for none.
func (c *config) sourceOf(name string) *collectConfig {
	if name != "-" {
		path := absolute(name)
		for i := range c.Collect {
			s := &c.Collect[i]
			if s.File == "" {
				continue
			}
			file := absolute(s.File)
			if match, err := filepath.Match(file, path); path == file || err == nil && match || strings.HasPrefix(path, file+".") || strings.HasPrefix(path, file+"-") {
				return s
			}
		}
	}
	if len(c.Collect) == 1 {
		return &c.Collect[0]
	}
	return nil
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// read is how an input is read: as its source says, but for what the command line
// says.
func (c *config) read(name string, flags collectConfig) collectConfig {
	s := c.sourceOf(name)
	if s == nil {
		return flags
	}
	how := *s
	if flags.LogFormat != "" || flags.Format != "" && flags.Format != "auto" {
		how.Format, how.LogFormat, how.Fields = flags.Format, flags.LogFormat, nil
	}
	how.Timezone, how.keyLog = cmp.Or(flags.Timezone, how.Timezone), flags.keyLog
	return how
}

// inputFacts is what the configuration says of inputs, as sources of the merge
// under the ids of inputID.
func inputFacts(ins []input) sourceFacts {
	var out sourceFacts
	for i := range ins {
		if f, ok := ins[i].how.fact(inputID(i), ins[i].name); ok {
			out.Sources = append(out.Sources, f)
		}
	}
	return out
}

// inputID is the id of the i-th input: ties between inputs go to the one named
// first.
func inputID(i int) uint64 { return uint64(i) + 1 }

// inputLabels are the labels of the inputs' sources, by input; nil for none.
func inputLabels(ins []input) map[string]map[string]string {
	var out map[string]map[string]string
	for i := range ins {
		if l := ins[i].how.Labels; len(l) > 0 {
			if out == nil {
				out = map[string]map[string]string{}
			}
			out[ins[i].name] = l
		}
	}
	return out
}
