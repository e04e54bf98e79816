package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"weir/alerts"
	"weir/detectors"
	"weir/pipeline"
)

// What of the configuration detection and alerts depend on enters the log as a control
// record, at the start and when it is reloaded: it takes effect at its place, and a
// replay treats what follows as the service did.

// controlConfig is the kind of a control record that holds a detectConfig.
const controlConfig = "config"

// detectConfig is what detection and alerts read of the configuration.
type detectConfig struct {
	Hash        string                    `json:"hash"` // versions.config
	Modes       map[string]detectors.Mode `json:"modes,omitempty"`
	Endpoints   []pipeline.EndpointRule   `json:"endpoints,omitempty"`
	MaxOpen     int                       `json:"max_open"`
	MaxResolved int                       `json:"max_resolved"`
	Budget      alerts.Budget             `json:"budget"`

	// Where the whole of it stands: the file, "" without one, and a hash of its text.
	File string `json:"file,omitempty"`
	Text string `json:"text,omitempty"`
}

func (c *config) detectConfig() detectConfig {
	return detectConfig{
		Hash: c.hash(), Modes: c.modes(), Endpoints: c.Endpoints, MaxOpen: c.Alerts.MaxOpen, MaxResolved: c.Alerts.MaxResolved, Budget: c.Alerts.Budget,
	}
}

// publishConfig puts what detection reads of c, which the file says in text, at the end
// of the log, unless before says the same, and returns it.
func (s *service) publishConfig(ctx context.Context, c *config, text, before []byte) ([]byte, error) {
	d := c.detectConfig()
	d.Text = hashOfText(string(text))
	if s.path != "" {
		path, err := filepath.Abs(s.path)
		if err != nil {
			return nil, fmt.Errorf("write the configuration of detection: %w", err)
		}
		d.File = path
	}
	body, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("write the configuration of detection: %w", err)
	}
	if bytes.Equal(body, before) {
		return body, nil
	}
	if _, err := s.db.AppendControl(ctx, pipeline.Control{Kind: controlConfig, Payload: body}); err != nil {
		return nil, fmt.Errorf("put the configuration of detection into the log: %w", err)
	}
	return body, nil
}

// setConfig makes what a control record says the configuration from here on.
func (e *engine) setConfig(body []byte) error {
	var c detectConfig
	if err := json.Unmarshal(body, &c); err != nil {
		return fmt.Errorf("read the configuration of detection in the log: %w", err)
	}
	logins, err := pipeline.NewLoginRules(c.Endpoints)
	if err != nil {
		return fmt.Errorf("read the configuration of detection in the log: %w", err)
	}
	switch {
	case e.set != nil:
		err = e.set.Configure(c.Modes, logins)
	case e.cross != nil:
		err = e.cross.Configure(c.Modes)
	}
	if err != nil {
		return fmt.Errorf("read the configuration of detection in the log: %w", err)
	}
	e.logins, e.versions.Config, e.configBody = logins, c.Hash, body
	e.bookConfig = alerts.Config{MaxOpen: c.MaxOpen, MaxResolved: c.MaxResolved, Budget: c.Budget}
	if e.book != nil {
		e.book.Configure(e.bookConfig, e.versions)
		e.book.Weigh(logins)
	}
	return nil
}
