package alerts

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"weir/pipeline"
)

// SuppressionConfig is an entry of alerts.suppressions, or of alerts.maintenance.
type SuppressionConfig struct {
	Match SuppressionMatchConfig `yaml:"match"`
	// From and Until are RFC 3339; without From it is in force as soon as it is there.
	From     pipeline.Time      `yaml:"from"`
	Until    pipeline.Time      `yaml:"until"`
	Schedule *pipeline.Schedule `yaml:"schedule"` // within From and Until, every week
	Reason   string             `yaml:"reason"`
	Author   string             `yaml:"author"` // who asked for it
}

// SuppressionMatchConfig is a pipeline.SuppressionMatch as a configuration writes it.
type SuppressionMatchConfig struct {
	Detector  string            `yaml:"detector"`
	Level     string            `yaml:"level"`
	Principal string            `yaml:"principal"` // KIND:VALUE
	Address   string            `yaml:"address"`
	Account   string            `yaml:"account"`
	Key       string            `yaml:"key"`
	Client    string            `yaml:"client"`
	Endpoint  string            `yaml:"endpoint"` // "METHOD /template"
	Labels    map[string]string `yaml:"labels"`
}

// match reads c.
func (c *SuppressionMatchConfig) match() pipeline.SuppressionMatch {
	m := pipeline.SuppressionMatch{Detector: c.Detector, Level: c.Level, Address: c.Address, Account: c.Account, Key: c.Key, Client: c.Client, Labels: c.Labels}
	if c.Principal != "" {
		m.Principal = ReadPrincipal(c.Principal)
	}
	if c.Endpoint != "" {
		method, template := cutEndpoint(c.Endpoint)
		m.Endpoint = &pipeline.EndpointMatch{Method: method, Template: template}
	}
	return m
}

// ReadPrincipal reads KIND:VALUE; what is none has no kind.
func ReadPrincipal(text string) *pipeline.Principal {
	kind, value, _ := strings.Cut(text, ":")
	p := &pipeline.Principal{Value: value}
	_ = p.Kind.UnmarshalText([]byte(kind))
	return p
}

// Configured returns the suppressions of the configuration, in its order. resolve
// makes tokens of names; its error begins with the member. Their ids follow from what
// they say: one that is changed is another one.
func (c *Config) Configured(resolve func(*pipeline.SuppressionMatch) error) (list []pipeline.Suppression, errs []error) {
	read := func(at string, of []SuppressionConfig, maintenance bool) {
		for i := range of {
			s, err := of[i].read(maintenance, resolve)
			if err != nil {
				errs = append(errs, fmt.Errorf("alerts.%s[%d].%w", at, i, err))
				continue
			}
			list = append(list, s)
		}
	}
	read("suppressions", c.Suppressions, false)
	read("maintenance", c.Maintenance, true)
	return list, errs
}

func (c *SuppressionConfig) read(maintenance bool, resolve func(*pipeline.SuppressionMatch) error) (s pipeline.Suppression, err error) {
	if c.Until == 0 {
		return s, fmt.Errorf("until: say when it ends, like 2027-01-31T00:00:00Z; nobody is watched by nobody for ever")
	}
	s = pipeline.Suppression{
		Match: c.Match.match(), Starts: c.From, Expires: c.Until, Schedule: c.Schedule, Maintenance: maintenance,
		Author: c.Author, Reason: strings.TrimSpace(c.Reason), Source: "config",
	}
	if s.Author == "" {
		s.Author = "configuration"
	}
	if s.Starts == 0 {
		s.Starts = s.Expires.Add(-pipeline.MaxSuppression)
	}
	s.Created = s.Starts
	if resolve != nil {
		if err := resolve(&s.Match); err != nil {
			return s, fmt.Errorf("match.%w", err)
		}
	}
	s.Normalize()
	if err := s.Validate(); err != nil {
		return s, err
	}
	text, err := json.Marshal(&s)
	if err != nil {
		return s, err
	}
	sum := sha256.Sum256(text)
	s.ID = "c_" + hex.EncodeToString(sum[:8])
	return s, nil
}
