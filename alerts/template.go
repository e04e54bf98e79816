package alerts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/template"

	"weir/pipeline"
)

// bodyTemplate makes the body of a webhook for receivers with a form of their own.
// It is a template of Go's text/template over the members of weir.alert/1:
//
//	{"title": {{json .title}}, "priority": {{json (pick .severity "critical" 1 "high" 2 3)}}}
//
// json writes a value as JSON, so that nothing in an alert can end a string; pick
// chooses by the first argument, the last one is for everything else; cut shortens
// a text; format is the alert as ocsf, ecs or cef. The result has to be JSON.
type bodyTemplate struct{ t *template.Template }

const (
	maxTemplate = 64 << 10
	maxBody     = 1 << 20
)

func readTemplate(path string) (*bodyTemplate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read template_file: %w", err)
	}
	if len(data) > maxTemplate {
		return nil, fmt.Errorf("read template_file %s: over %d bytes", path, maxTemplate)
	}
	t, err := template.New("body").Option("missingkey=error").Funcs(template.FuncMap{
		"json": toJSON, "pick": pick, "cut": func(n int, s string) string { return cut(s, max(n, 4)) },
		"format": func(string) (string, error) { return "", nil },
	}).Parse(string(data))
	if err != nil {
		return nil, fmt.Errorf("read template_file: %w", err)
	}
	b := &bodyTemplate{t}
	if _, err := b.body(TestAlert("", 0)); err != nil {
		return nil, fmt.Errorf("read template_file %s: %w", path, err)
	}
	return b, nil
}

func (b *bodyTemplate) body(a *pipeline.Alert) ([]byte, error) {
	var members map[string]any
	if err := json.Unmarshal(AppendJSON(nil, a), &members); err != nil {
		return nil, fmt.Errorf("fill template: %w: %w", err, pipeline.ErrPermanent)
	}
	t, err := b.t.Clone()
	if err != nil {
		return nil, fmt.Errorf("fill template: %w: %w", err, pipeline.ErrPermanent)
	}
	t.Funcs(template.FuncMap{"format": func(f string) (string, error) {
		switch f := Format(f); f {
		case FormatOCSF, FormatECS, FormatCEF:
			return string(AppendFormat(nil, a, f, "")), nil
		}
		return "", fmt.Errorf("format: %q is none of ocsf, ecs, cef", f)
	}})
	var out bytes.Buffer
	if err := t.Execute(&limited{&out, maxBody}, members); err != nil {
		return nil, fmt.Errorf("fill template: %w: %w", err, pipeline.ErrPermanent)
	}
	if !json.Valid(out.Bytes()) {
		return nil, fmt.Errorf("fill template: the result is no JSON; write values as {{json .title}}: %w", pipeline.ErrPermanent)
	}
	return out.Bytes(), nil
}

// limited is a writer that takes no more than left bytes.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errors.New("body is too large")
	}
	return l.w.Write(p)
}

func toJSON(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	return string(appendPrintable(nil, bytes.TrimSuffix(b.Bytes(), []byte("\n")))), nil
}

// pick returns what follows the first of cases that equals v: pick v a 1 b 2 3.
func pick(v any, cases ...any) (any, error) {
	for i := 0; i+1 < len(cases); i += 2 {
		if cases[i] == v {
			return cases[i+1], nil
		}
	}
	if len(cases)%2 == 0 {
		return nil, errors.New("pick: the last argument is for everything else")
	}
	return cases[len(cases)-1], nil
}
