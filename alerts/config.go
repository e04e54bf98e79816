package alerts

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"weir/pipeline"
)

// Config is the section "alerts" of the configuration file.
type Config struct {
	Sinks  map[string]SinkConfig `yaml:"sinks"`
	Routes []Route               `yaml:"routes"`
	// Suppressions and Maintenance are alerts that wake nobody for a while; of a
	// maintenance only a success does.
	Suppressions []SuppressionConfig `yaml:"suppressions"`
	Maintenance  []SuppressionConfig `yaml:"maintenance"`
	// AllowNetworks are private networks that names of sinks may lead into; see
	// guard.
	AllowNetworks []string `yaml:"allow_networks"`
	// MaxOpen bounds the open incidents; the weakest beyond it are counted in
	// one notice. MaxResolved bounds the resolved ones that may reopen.
	MaxOpen     int    `yaml:"max_open"`
	MaxResolved int    `yaml:"max_resolved"`
	Budget      Budget `yaml:"budget"`
}

// DefaultConfig has no sinks; alerts are kept and shown all the same.
func DefaultConfig() Config {
	return Config{MaxOpen: 100_000, MaxResolved: 65_536, Budget: Budget{Alerts: 200, Pages: 60}}
}

// SinkConfig configures one sink: exactly one of its kinds is set.
type SinkConfig struct {
	Webhook       *WebhookConfig       `yaml:"webhook"`
	Splunk        *SplunkConfig        `yaml:"splunk"`
	Elasticsearch *ElasticsearchConfig `yaml:"elasticsearch"`
	Sentinel      *SentinelConfig      `yaml:"sentinel"`
	Syslog        *SyslogConfig        `yaml:"syslog"`
	File          *FileConfig          `yaml:"file"`
	Kafka         *KafkaConfig         `yaml:"kafka"`
	PagerDuty     *PagerDutyConfig     `yaml:"pagerduty"`
	Slack         *SlackConfig         `yaml:"slack"`

	// Format is how alerts are written, for the kinds that leave a choice;
	// OCSFVersion is that of FormatOCSF, the newest when empty.
	Format      Format `yaml:"format"`
	OCSFVersion string `yaml:"ocsf_version"`
	// Batch bounds the alerts in one attempt, MaxPerMinute the attempts in a
	// minute; 0 is what suits the kind.
	Batch        int `yaml:"batch"`
	MaxPerMinute int `yaml:"max_per_minute"`
	// Identity is IdentityToken (the default) or IdentityClear; see showNames.
	Identity string `yaml:"identity"`
}

// What a sink is shown of names.
const (
	IdentityToken = "token"
	IdentityClear = "clear"
)

// Clear reports whether the sink is shown names.
func (c *SinkConfig) Clear() bool { return c.Identity == IdentityClear }

const maxBatch = window

// kind is the entry of the catalog that c uses, nil for none.
func (c *SinkConfig) kind() *kind {
	for _, k := range catalog() {
		if k.used(c) {
			return &k
		}
	}
	return nil
}

// limits are how many alerts go into one attempt, and how far apart attempts are.
func (c *SinkConfig) limits() (batch int, pace time.Duration) {
	k := c.kind()
	if k == nil {
		k = &kind{batch: 1}
	}
	batch = cmp.Or(c.Batch, k.batch)
	if n := cmp.Or(c.MaxPerMinute, k.perMin); n > 0 {
		pace = time.Minute / time.Duration(n)
	}
	return batch, pace
}

// writer writes alerts in the format that c asks for.
func (c *SinkConfig) writer() writer {
	w := writer{format: c.Format, ocsf: c.OCSFVersion}
	if k := c.kind(); w.format == "" && k != nil {
		w.format = k.format
	}
	return w
}

// writer writes alerts in one format.
type writer struct {
	format Format
	ocsf   string
}

func (w writer) append(dst []byte, a *pipeline.Alert) []byte {
	return AppendFormat(dst, a, w.format, w.ocsf)
}

// value is a as a member of a JSON document.
func (w writer) value(a *pipeline.Alert) any {
	b := w.append(nil, a)
	if w.format == FormatCEF {
		return string(b)
	}
	return json.RawMessage(b)
}

// validate returns the problems of what all kinds share.
func (c *SinkConfig) validate(k *kind) []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	known := false
	var names []string
	for _, f := range formats() {
		known = known || f.name == c.Format
		names = append(names, string(f.name))
	}
	switch {
	case c.Format == "":
	case !known:
		bad("format: %q is none of %s", c.Format, strings.Join(names, ", "))
	case k.format == "":
		bad("format: %s has a form of its own", k.name)
	}
	if c.OCSFVersion != "" && !slices.Contains(OCSFVersions(), c.OCSFVersion) {
		bad("ocsf_version: %q is none of %s", c.OCSFVersion, strings.Join(OCSFVersions(), ", "))
	}
	if c.OCSFVersion != "" && c.writer().format != FormatOCSF {
		bad("ocsf_version: is for format: ocsf")
	}
	if c.Batch < 0 || c.Batch > maxBatch {
		bad("batch: %d is not within 1 to %d", c.Batch, maxBatch)
	}
	if c.Batch > 1 && k.batch == 1 {
		bad("batch: %s takes one alert at a time", k.name)
	}
	if c.Identity != "" && c.Identity != IdentityToken && c.Identity != IdentityClear {
		bad("identity: %q is neither %s nor %s", c.Identity, IdentityToken, IdentityClear)
	}
	if c.MaxPerMinute < 0 || c.MaxPerMinute > 60_000 {
		bad("max_per_minute: %d is not within 1 to 60000", c.MaxPerMinute)
	}
	return errs
}

// Duration is a time.Duration that configuration writes as 90s, 12h or 7d.
type Duration time.Duration

// UnmarshalText reads Go's durations and whole days.
func (d *Duration) UnmarshalText(b []byte) error {
	s := string(b)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36_500 {
			return fmt.Errorf("read duration %q: want a form like 90s, 12h or 7d", s)
		}
		*d = Duration(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf("read duration %q: want a form like 90s, 12h or 7d", s)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// severities lists the words from mild to grave; their index is the rank.
func severities() [5]string { return [5]string{"info", "low", "medium", "high", "critical"} }

// Validate returns every problem at once, each with its path below "alerts".
func (c *Config) Validate() []error {
	var errs []error
	bad := func(path, format string, args ...any) {
		errs = append(errs, fmt.Errorf("alerts."+path+": "+format, args...))
	}
	if c.MaxOpen < 1 || c.MaxOpen > 1_000_000 {
		bad("max_open", "%d is not within 1 to 1000000", c.MaxOpen)
	}
	if c.MaxResolved < 1 || c.MaxResolved > 1_000_000 {
		bad("max_resolved", "%d is not within 1 to 1000000", c.MaxResolved)
	}
	if n := c.Budget.Alerts; n < 0 || n > maxBudget {
		bad("budget.alerts", "%d is not within 0 to %d", n, maxBudget)
	}
	if n := c.Budget.Pages; n < 0 || n > maxBudget {
		bad("budget.pages", "%d is not within 0 to %d", n, maxBudget)
	}
	names := make([]string, 0, len(c.Sinks))
	for name := range c.Sinks {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		s := c.Sinks[name]
		if !plainName(name) {
			bad("sinks", "name %q: use letters, digits, - and _, at most 64", name)
		}
		n := 0
		for _, k := range catalog() {
			if !k.used(&s) {
				continue
			}
			if n++; n == 1 {
				for _, err := range s.validate(&k) {
					errs = append(errs, fmt.Errorf("alerts.sinks.%s.%w", name, err))
				}
			}
			for _, err := range k.validate(&s) {
				errs = append(errs, fmt.Errorf("alerts.sinks.%s.%s.%w", name, k.name, err))
			}
		}
		if n != 1 {
			bad("sinks."+name, "has %d kinds, want exactly one of %s", n, kindNames())
		}
	}
	if _, err := c.Networks(); err != nil {
		bad("allow_networks", "%w", err)
	}
	for i := range c.Routes {
		for _, err := range c.Routes[i].validate(c.Sinks) {
			errs = append(errs, fmt.Errorf("alerts.routes[%d].%w", i, err))
		}
	}
	return errs
}

// Kind is the kind of sink that c configures, "" for none.
func (c *SinkConfig) Kind() string {
	if k := c.kind(); k != nil {
		return k.name
	}
	return ""
}

// Networks reads AllowNetworks; a bare address is its own network.
func (c *Config) Networks() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range c.AllowNetworks {
		p, err := netip.ParsePrefix(s)
		if ip, e := netip.ParseAddr(s); e == nil {
			p, err = netip.PrefixFrom(ip, ip.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q is no network like 10.1.0.0/16", s)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func kindNames() string {
	var names []string
	for _, k := range catalog() {
		names = append(names, k.name)
	}
	return strings.Join(names, ", ")
}

// wordRunes need no quoting anywhere.
const wordRunes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

func plainName(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, wordRunes) == ""
}

// Err joins the problems of Validate, nil when there are none.
func (c *Config) Err() error { return errors.Join(c.Validate()...) }

// family is a detector's name up to the dot.
func family(detector string) string {
	f, _, _ := strings.Cut(detector, ".")
	return f
}
