package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"weir/alerts"
	"weir/collector"
	"weir/console"
	"weir/detectors"
	"weir/pipeline"
)

// config is weir.yaml: each section belongs to the package that acts on it;
// here they are only put together.
type config struct {
	Collect   []collectConfig           `yaml:"collect"`
	Identity  pipeline.IdentityConfig   `yaml:"identity"`
	Context   pipeline.ContextConfig    `yaml:"context"`
	Endpoints []pipeline.EndpointRule   `yaml:"endpoints"`
	Detect    map[string]detectorConfig `yaml:"detect"`
	Bus       busConfig                 `yaml:"bus"`
	Store     storeConfig               `yaml:"store"`
	Alerts    alerts.Config             `yaml:"alerts"`
	Console   console.Config            `yaml:"console"`
	Privacy   privacyConfig             `yaml:"privacy"`
	Log       logConfig                 `yaml:"log"`

	ContextHash string `yaml:"-"` // of what Context names, once it is loaded
}

// collectConfig is one source: one of File, Push, OTLP, Syslog, Kafka and Capture
// is set.
type collectConfig struct {
	File      string            `yaml:"file"`
	Push      *pushConfig       `yaml:"push"`
	OTLP      *pushConfig       `yaml:"otlp"`
	Syslog    *syslogConfig     `yaml:"syslog"`
	Kafka     *kafkaConfig      `yaml:"kafka"`
	Capture   *captureConfig    `yaml:"capture"`
	Format    string            `yaml:"format"`     // auto, or a name
	LogFormat string            `yaml:"log_format"` // nginx log_format or Apache LogFormat
	Fields    map[string]string `yaml:"fields"`     // weir field: member of a JSON line
	Timezone  string            `yaml:"timezone"`
	Labels    map[string]string `yaml:"labels"`

	Lateness   duration `yaml:"lateness,omitempty"`    // how much lines may be out of order
	SampleRate float64  `yaml:"sample_rate,omitempty"` // share of the traffic that the source shows; 0 all
	Dedupe     string   `yaml:"dedupe,omitempty"`      // request_id

	keyLog string `yaml:"-"` // of captures, by --keylog
}

type detectorConfig struct {
	Mode detectors.Mode `yaml:"mode"`
}

type storeConfig struct {
	Path           string            `yaml:"path"`
	Retention      duration          `yaml:"retention"`
	MaxBytes       size              `yaml:"max_bytes"`
	AlertRetention duration          `yaml:"alert_retention"`
	AuditRetention duration          `yaml:"audit_retention"`
	ClickHouse     *clickHouseConfig `yaml:"clickhouse,omitempty"` // of a fleet; nil: the file at Path
}

type privacyConfig struct {
	KeyFile string `yaml:"key_file"`
}

type logConfig struct {
	Level  string `yaml:"level"`  // debug info warn error
	Format string `yaml:"format"` // text json
}

// duration is a time.Duration written as 90s or 7d.
type duration = alerts.Duration

// size is a number of bytes, or a share of the disk, written 500MB or 20%.
type size struct {
	Bytes   int64
	Percent int
}

func (s *size) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	if p, ok := strings.CutSuffix(text, "%"); ok {
		n, err := strconv.Atoi(p)
		if err != nil || n < 1 || n > 95 {
			return fmt.Errorf("read size %q: want 1%% to 95%%", text)
		}
		*s = size{Percent: n}
		return nil
	}
	units := []struct {
		name  string
		bytes int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1}, {"", 1}}
	for _, u := range units {
		if n, ok := strings.CutSuffix(text, u.name); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(n), 64)
			if err != nil || v <= 0 || v*float64(u.bytes) > 1<<60 {
				break
			}
			*s = size{Bytes: int64(v * float64(u.bytes))}
			return nil
		}
	}
	return fmt.Errorf("read size %q: want a form like 20GB, 512MiB or 20%%", text)
}

func (s size) MarshalText() ([]byte, error) {
	if s.Percent > 0 {
		return fmt.Appendf(nil, "%d%%", s.Percent), nil
	}
	return fmt.Appendf(nil, "%dB", s.Bytes), nil
}

func defaultConfig() *config {
	return &config{
		Identity: pipeline.DefaultIdentityConfig(),
		Context:  pipeline.DefaultContextConfig(),
		Bus:      defaultBus(),
		Alerts:   alerts.DefaultConfig(),
		Store:    storeConfig{Path: "weir.db", Retention: duration(7 * 24 * time.Hour), MaxBytes: size{Percent: 20}, AlertRetention: duration(400 * 24 * time.Hour), AuditRetention: duration(400 * 24 * time.Hour)},
		Console:  console.DefaultConfig(),
		Log:      logConfig{Level: "info", Format: "text"},
	}
}

// maxConfig bounds a configuration file.
const maxConfig = 1 << 20

// loadConfig reads path over the defaults; "" gives the defaults. The error
// holds every problem that was found.
func loadConfig(path string) (*config, error) {
	if path == "" {
		return defaultConfig(), nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	c, err := parseConfig(data)
	if err != nil {
		return nil, fmt.Errorf("configuration %s:\n%w", path, err)
	}
	return c, nil
}

// parseConfig reads and validates a configuration text.
func parseConfig(data []byte) (*config, error) {
	if len(data) > maxConfig {
		return nil, fmt.Errorf("it is larger than %d bytes", maxConfig)
	}
	expanded, err := expandEnv(string(data))
	if err != nil {
		return nil, err
	}
	c := defaultConfig()
	if strings.TrimSpace(expanded) != "" {
		var tree yaml.Node
		if err := yaml.Load([]byte(expanded), &tree); err != nil {
			return nil, err
		}
		wrong := misfits(&tree, reflect.TypeFor[config](), "")
		if err := tree.Load(c); err != nil && len(wrong) == 0 {
			return nil, err
		} else if err != nil {
			return nil, errors.Join(wrong...)
		}
		return c, errors.Join(append(wrong, c.validate())...)
	}
	return c, c.validate()
}

// expandEnv replaces ${NAME} outside comments by the environment's value.
func expandEnv(text string) (string, error) {
	var errs []error
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for {
			from := strings.Index(line, "${")
			if from < 0 {
				break
			}
			to := strings.IndexByte(line[from:], '}')
			if to < 0 {
				break
			}
			name := line[from+2 : from+to]
			value, ok := os.LookupEnv(name)
			if !ok {
				errs = append(errs, fmt.Errorf("line %d: environment variable %s is not set", i+1, name))
			}
			line = line[:from] + strings.ReplaceAll(value, "${", "") + line[from+to+1:]
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n"), errors.Join(errs...)
}

func (c *config) validate() error {
	var errs []error
	listeners := map[string]bool{}
	copies := 0
	for i, s := range c.Collect {
		errs = append(errs, s.validate(fmt.Sprintf("collect[%d]", i))...)
		if s.Dedupe != "" {
			copies++
		}
		if name := s.sourceName(); s.File == "" && name != "" && listeners[name] {
			errs = append(errs, fmt.Errorf("collect[%d]: %s is a source already", i, name))
		} else if s.File == "" {
			listeners[name] = true
		}
		if _, err := s.options(); err != nil {
			errs = append(errs, fmt.Errorf("collect[%d].timezone: %w", i, err))
		} else if _, _, err := s.format(nil, false); err != nil {
			errs = append(errs, fmt.Errorf("collect[%d]: %w", i, err))
		}
	}
	if copies == 1 || copies > pipeline.DedupeSources {
		errs = append(errs, fmt.Errorf("collect: dedupe is on %d sources; it is for two to %d that show the same requests", copies, pipeline.DedupeSources))
	}
	if err := c.Identity.Validate(); err != nil {
		errs = append(errs, err)
	}
	if err := c.Context.Validate(); err != nil {
		errs = append(errs, err)
	}
	if _, err := pipeline.NewLoginRules(c.Endpoints); err != nil {
		errs = append(errs, err)
	}
	names := make([]string, 0, len(c.Detect))
	for name := range c.Detect {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if !slices.Contains(detectors.Names(), name) {
			errs = append(errs, fmt.Errorf("detect.%s: no such detector; there are %s", name, strings.Join(detectors.Names(), ", ")))
		}
		switch c.Detect[name].Mode {
		case "", detectors.ModeOn, detectors.ModeShadow, detectors.ModeOff:
		default:
			errs = append(errs, fmt.Errorf("detect.%s.mode: %q is none of on, shadow, off", name, c.Detect[name].Mode))
		}
	}
	errs = append(errs, c.Bus.validate()...)
	if c.Store.ClickHouse != nil {
		errs = append(errs, c.Store.ClickHouse.validate("store.clickhouse")...)
	}
	errs = append(errs, c.Alerts.Validate()...)
	if _, bad := c.Alerts.Configured(func(m *pipeline.SuppressionMatch) error { return resolveClient(m, c) }); len(bad) > 0 {
		errs = append(errs, bad...)
	}
	if err := c.Console.Validate(); err != nil {
		errs = append(errs, err)
	}
	switch c.Log.Level {
	case "debug", "info", "warn", "error":
	default:
		errs = append(errs, fmt.Errorf("log.level: %q is none of debug, info, warn, error", c.Log.Level))
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		errs = append(errs, fmt.Errorf("log.format: %q is neither text nor json", c.Log.Format))
	}
	return errors.Join(errs...)
}

func (c *config) modes() map[string]detectors.Mode {
	m := map[string]detectors.Mode{}
	for name, d := range c.Detect {
		if d.Mode != "" {
			m[name] = d.Mode
		}
	}
	return m
}

// hash names what of the configuration alerts depend on: detection, identity,
// endpoints and the contents of what context names.
func (c *config) hash() string {
	id, endpoints := c.Identity, c.Endpoints
	// An empty list and none are the same configuration.
	if len(id.TrustedProxies) == 0 {
		id.TrustedProxies = nil
	}
	if len(id.InternalNetworks) == 0 {
		id.InternalNetworks = nil
	}
	if len(id.KnownClients) == 0 {
		id.KnownClients = nil
	}
	if len(endpoints) == 0 {
		endpoints = nil
	}
	data, err := json.Marshal(struct {
		Identity  pipeline.IdentityConfig
		Endpoints []pipeline.EndpointRule
		Detect    map[string]detectors.Mode
		Context   string `json:",omitempty"`
	}{id, endpoints, c.modes(), c.ContextHash})
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:16])
}

// validate checks what kind of source it is.
func (s *collectConfig) validate(at string) (errs []error) {
	kinds := 0
	if s.File != "" {
		kinds++
	}
	if s.Push != nil {
		kinds++
		errs = s.Push.validate(at+".push", defaultPush)
	}
	if s.OTLP != nil {
		kinds++
		errs = append(errs, s.OTLP.validate(at+".otlp", defaultOTLP)...)
	}
	if s.Syslog != nil {
		kinds++
		errs = append(errs, s.Syslog.validate(at+".syslog")...)
	}
	if s.Capture != nil {
		kinds++
		errs = append(errs, s.Capture.validate(at+".capture")...)
	}
	if s.Kafka != nil {
		kinds++
		errs = append(errs, s.Kafka.validate(at+".kafka")...)
	}
	if s.Lateness < 0 || s.Lateness > duration(time.Hour) {
		errs = append(errs, fmt.Errorf("%s.lateness: want at most 1h", at))
	}
	if !(s.SampleRate >= 0 && s.SampleRate <= 1) {
		errs = append(errs, fmt.Errorf("%s.sample_rate: %v is no share between 0 and 1", at, s.SampleRate))
	}
	if s.Dedupe != "" && s.Dedupe != "request_id" {
		errs = append(errs, fmt.Errorf("%s.dedupe: %q is not request_id, by which copies are told", at, s.Dedupe))
	}
	if kinds != 1 {
		errs = append(errs, fmt.Errorf("%s.file: give the path of a log, push, otlp or syslog to be sent lines, kafka for a topic of them, or capture to read packets; one of them", at))
	}
	return errs
}

// kind is what kind of source it is.
func (s *collectConfig) kind() string {
	switch {
	case s.Push != nil:
		return "push"
	case s.OTLP != nil:
		return "otlp"
	case s.Syslog != nil:
		return "syslog"
	case s.Kafka != nil:
		return "kafka"
	case s.Capture != nil:
		return "capture"
	}
	return "file"
}

// sourceName is the source as users know it; a file may be a glob.
func (s *collectConfig) sourceName() string {
	if s.Push != nil {
		return "push:" + s.Push.address(defaultPush)
	}
	if s.OTLP != nil {
		return "otlp:" + s.OTLP.address(defaultOTLP)
	}
	if s.Syslog != nil {
		network, address := s.Syslog.where()
		return "syslog:" + network + "://" + address
	}
	if s.Capture != nil {
		return "capture:" + s.Capture.Interface
	}
	if s.Kafka != nil {
		return "kafka:" + s.Kafka.Topic
	}
	return s.File
}

// options are the parse options of the source.
func (s *collectConfig) options() (collector.ParseOptions, error) {
	opt := collector.ParseOptions{Map: s.Fields}
	if s.Timezone != "" {
		loc, err := time.LoadLocation(s.Timezone)
		if err != nil {
			return opt, fmt.Errorf("%q: %w", s.Timezone, err)
		}
		opt.Location = loc
	}
	return opt, nil
}

// format decides how to read the source. With look false it only checks what
// is configured; else head gives the first lines when they are needed. chosen
// says in a sentence what was decided.
func (s *collectConfig) format(head func() ([][]byte, error), look bool) (f *collector.Format, chosen string, err error) {
	opt, err := s.options()
	if err != nil {
		return nil, "", err
	}
	switch {
	case s.LogFormat != "":
		got, err := collector.CompileLogFormat(s.LogFormat, opt)
		return &got, "as given by --log-format", err
	case s.Format != "" && s.Format != "auto":
		got, err := collector.Named(s.Format, opt)
		return &got, "as given: " + got.Name, err
	case !look:
		return nil, "", nil
	}
	lines, err := head()
	if err != nil {
		return nil, "", err
	}
	d := collector.Detect(lines, opt)
	if d.Format == nil {
		return nil, "", &unknownFormat{d}
	}
	return d.Format, d.Chosen, nil
}

// unknownFormat is an input that no format could be told for.
type unknownFormat struct{ d collector.Detection }

func (e *unknownFormat) Error() string {
	if e.d.Remedy == "" {
		return e.d.Problem
	}
	return e.d.Problem + "\n  " + e.d.Remedy
}
