package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"go.yaml.in/yaml/v4"

	"weir/detectors"
	"weir/storage/sqlite"
)

// runningConfig is the configuration in force as a store's log knows it.
type runningConfig struct {
	cfg  *config
	text []byte // as the file has it; nil where only the log is left to tell
	note string // what of it is taken to be as in the new one
	hash string // versions.config in force
	from string // in words
}

// storedConfig is what a store's log says is in force: the file that it names, while
// that still says the same, or what detection reads of it, which the log itself holds.
// The rest is then as in next, and note says so.
func storedConfig(ctx context.Context, store string, next *config) (*runningConfig, error) {
	db, err := sqlite.Open(store, sqlite.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	body, ok, err := db.LastControl(ctx, controlConfig)
	if err := errors.Join(err, db.Close()); err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("--store %s: its log says nothing of a configuration in force; give it with --against", store)
	}
	var in detectConfig
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, fmt.Errorf("--store %s: read the configuration in its log: %w", store, err)
	}
	r := &runningConfig{hash: in.Hash}
	if in.Text == hashOfText("") {
		r.cfg, r.text, r.from = defaultConfig(), []byte{}, "what weir runs with: the defaults"
		return r, nil
	}
	why := "the log does not say where the file is"
	if in.File != "" {
		text, err := os.ReadFile(in.File)
		switch {
		case err != nil:
			why = in.File + " cannot be read here"
		case hashOfText(string(text)) != in.Text:
			why = in.File + " was changed and weir has not taken that over"
		default:
			if r.cfg, err = parseConfig(text); err == nil {
				r.text, r.from = text, "what weir runs with: "+in.File
				return r, nil
			}
			why = in.File + " cannot be read here: " + err.Error()
		}
	}
	known := *next
	known.Detect = map[string]detectorConfig{}
	for name, mode := range in.Modes {
		known.Detect[name] = detectorConfig{mode}
	}
	known.Endpoints = in.Endpoints
	known.Alerts.MaxOpen, known.Alerts.MaxResolved, known.Alerts.Budget = in.MaxOpen, in.MaxResolved, in.Budget
	r.cfg, r.from = &known, "what weir runs with, by the log of "+store
	r.note = why + ": of the configuration in force the store's log has detect, endpoints and the bounds of alerts; the rest is taken to be as in -c. --against FILE gives all of it"
	return r, nil
}

// diff is what of alerts differs between what is in force and the file with next.
func (r *runningConfig) diff(path string, next *config) ([]configChange, error) {
	if r.text != nil {
		text, err := readSmall(path)
		if err != nil {
			return nil, err
		}
		return diffConfigs(r.text, text)
	}
	var texts [2][]byte
	for i, c := range []*config{r.cfg, next} {
		known := map[string]any{"endpoints": c.Endpoints, "alerts": map[string]any{"max_open": c.Alerts.MaxOpen, "max_resolved": c.Alerts.MaxResolved, "budget": c.Alerts.Budget}}
		modes := map[string]any{}
		for name, mode := range c.modes() {
			if mode != detectors.ModeOn {
				modes[name] = map[string]any{"mode": string(mode)}
			}
		}
		known["detect"] = modes
		var err error
		if texts[i], err = yaml.Dump(known); err != nil {
			return nil, fmt.Errorf("compare the configurations: %w", err)
		}
	}
	return diffConfigs(texts[0], texts[1])
}
