package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// secretMark stands for the n-th secret of the running configuration in the text
// that people see and send back.
func secretMark(n int) string { return fmt.Sprintf("'<secret %d>'", n) }

var secretMarks = regexp.MustCompile(`['"]?<secret ([0-9]+)>['"]?`)

// secretsOf are the scalars of a configuration that may not be shown, as they stand
// in the text, in order. An error means that one cannot be told from the text
// around it.
func secretsOf(text string) ([]secretScalar, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var tree yaml.Node
	if err := yaml.Load([]byte(text), &tree); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	starts := []int{0}
	for i, c := range text {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	var list []secretScalar
	var err error
	eachScalar(&tree, "", func(path string, n *yaml.Node) {
		if masked(path, n.Value) == n.Value || strings.HasPrefix(n.Value, "${") && strings.HasSuffix(n.Value, "}") {
			return
		}
		s, ok := scalarAt(text, starts, n)
		if !ok {
			err = fmt.Errorf("line %d: %s holds a secret in a form that cannot be left out; put it into a file (..._file) or ${ENV}", n.Line, path)
			return
		}
		list = append(list, s)
	})
	slices.SortFunc(list, func(a, b secretScalar) int { return a.from - b.from })
	return list, err
}

// secretScalar is where a secret stands.
type secretScalar struct{ from, to int }

// scalarAt finds the text of a scalar on one line.
func scalarAt(text string, starts []int, n *yaml.Node) (s secretScalar, ok bool) {
	if n.Line < 1 || n.Line > len(starts) {
		return s, false
	}
	line := text[starts[n.Line-1]:]
	line, _, _ = strings.Cut(line, "\n")
	// Columns count characters.
	at := 0
	for i := range line {
		if at == n.Column-1 {
			at = -1
			line, s.from = line[i:], starts[n.Line-1]+i
			break
		}
		at++
	}
	if at >= 0 {
		return s, false
	}
	raw := n.Value
	if len(line) > 0 && (line[0] == '\'' || line[0] == '"') {
		quote := line[0]
		end := 1
		for end < len(line) && line[end] != quote {
			if quote == '"' && line[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(line) || quote == '\'' && end+1 < len(line) && line[end+1] == '\'' {
			return s, false
		}
		raw = line[:end+1]
	}
	s.to = s.from + len(raw)
	return s, strings.HasPrefix(line, raw) && raw != ""
}

// eachScalar calls f for the scalars below n with their paths.
func eachScalar(n *yaml.Node, path string, f func(path string, n *yaml.Node)) {
	switch n.Kind {
	case yaml.DocumentNode:
		for _, c := range n.Content {
			eachScalar(c, path, f)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			eachScalar(n.Content[i+1], strings.TrimPrefix(path+"."+n.Content[i].Value, "."), f)
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			eachScalar(c, fmt.Sprintf("%s[%d]", path, i), f)
		}
	case yaml.ScalarNode:
		f(path, n)
	}
}

// hideSecrets is text with marks for its secrets.
func hideSecrets(text string) (string, error) {
	list, err := secretsOf(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	last := 0
	for i, s := range list {
		b.WriteString(text[last:s.from])
		b.WriteString(secretMark(i + 1))
		last = s.to
	}
	b.WriteString(text[last:])
	return b.String(), nil
}

// restoreSecrets puts the secrets of running back in place of their marks.
func restoreSecrets(text, running string) (string, error) {
	list, err := secretsOf(running)
	if err != nil {
		return "", err
	}
	var wrong error
	out := secretMarks.ReplaceAllStringFunc(text, func(mark string) string {
		n, err := strconv.Atoi(secretMarks.FindStringSubmatch(mark)[1])
		if err != nil || n < 1 || n > len(list) {
			wrong = fmt.Errorf("%s stands for no secret of the running configuration", mark)
			return mark
		}
		return running[list[n-1].from:list[n-1].to]
	})
	return out, wrong
}
