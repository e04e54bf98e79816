package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"weir/alerts"
	"weir/console"
	"weir/detectors"
	"weir/pipeline"
	"weir/storage/sqlite"
)

const runHelp = `Usage: weir run [-c weir.yaml] [flags] [INPUT...]

Follows logs and detects, stores, alerts and serves, all in this process, with
everything it keeps in one file. INPUTs are added to the configuration's.

  weir run /var/log/nginx/access.log
  weir run -c /etc/weir/weir.yaml

What an input holds at the first start is read as history: weir learns from it,
and what it finds there is stored but not sent anywhere. Stop it with Ctrl-C or
SIGTERM; it goes on where it stopped, also after a crash. SIGHUP, or a change of the
configuration file, reloads detectors' modes, endpoints' weights, sinks and routes.

  curl http://127.0.0.1:7380/api/v1/alerts

Flags:
  -c FILE              configuration
  --store FILE         where everything is kept (default weir.db)
  --listen ADDRESS     HTTP: health, metrics, alerts, feeds (default 127.0.0.1:7380)
  --edition FILE       detect with this edition and learn no other
  --format NAME        of the INPUTs: auto (default), combined, common, json ...
  --log-format STRING  of the INPUTs: the log format line of nginx, Apache, HAProxy or Envoy
  --tz ZONE            for stamps without a zone
  --workers N          goroutines (default: one per CPU)
`

func runService(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var how collectConfig
	var path, store, listen, edition string
	var workers int
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	fs.StringVar(&path, "c", "", "")
	fs.StringVar(&store, "store", "", "")
	fs.StringVar(&listen, "listen", "", "")
	fs.StringVar(&edition, "edition", "", "")
	fs.StringVar(&how.Format, "format", "auto", "")
	fs.StringVar(&how.LogFormat, "log-format", "", "")
	fs.StringVar(&how.Timezone, "tz", "", "")
	fs.IntVar(&workers, "workers", runtime.GOMAXPROCS(0), "")
	inputs, code, done := parseFlags(fs, runHelp, args, stdout, stderr)
	if done {
		return code
	}
	load := func() (*config, error) {
		cfg, err := loadConfig(path)
		if err != nil {
			return nil, err
		}
		for _, name := range inputs {
			src := how
			src.File = name
			cfg.Collect = append(cfg.Collect, src)
		}
		if store != "" {
			cfg.Store.Path = store
		}
		if listen != "" {
			cfg.Console.Listen = listen
		}
		return cfg, nil
	}
	hup, ignore := hangups()
	defer ignore()
	text, err := readSmall(path) // before it is read to be used: a change in between is noticed
	if err != nil {
		fmt.Fprintf(stderr, "weir run: %v\n", err)
		return exitFailed
	}
	cfg, err := load()
	if err != nil {
		fmt.Fprintf(stderr, "weir run: %v\n", err)
		return exitFailed
	}
	if len(cfg.Collect) == 0 {
		fmt.Fprintln(stderr, "weir run: nothing to read; give a log file, or a configuration with collect (weir run --help)")
		return exitUsage
	}
	limitService()
	s := &service{cfg: cfg, path: path, text: text, log: newLogger(cfg.Log, stderr), edition: edition, workers: workers, stdin: stdin, stderr: stderr}
	s.reloads = &reloader{s: s, load: load, path: path, cfg: cfg, file: sumOf(text), asks: make(chan chan reloadAnswer)}
	s.hup = hup
	defer func() { _ = s.log.Sync() }()
	if err := s.run(ctx); err != nil {
		fmt.Fprintf(stderr, "weir run: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// service is one weir run: the stages of the embedded wiring and what they
// share.
type service struct {
	cfg     *config
	path    string // of the configuration, "" without one
	text    []byte // as the file had it
	tuning  *tuning
	log     *zap.Logger
	edition string
	workers int
	stdin   io.Reader
	stderr  io.Writer // for what is no business of the log's; may be nil

	db        *sqlite.DB // nil in a fleet
	requests  requestLog
	keys      *pipeline.PrivacyKeys
	pepper    *console.Pepper
	auditKey  *console.AuditKey    // nil while the audit is not signed
	never     *pipeline.NeverBlock // nil while decisions are off
	id        *pipeline.Identity
	metrics   *metrics
	labels    map[string]map[string]string // by source
	trace     func(detectors.Traced)       // of a replay; nil in the service
	status    status
	names     templates // of endpoints, for the console
	deliverer atomic.Pointer[alerts.Deliverer]
	inForce   atomic.Pointer[config]         // after a reload
	limits    atomic.Pointer[console.Limits] // nil before they are known
	blind     atomic.Pointer[blindLive]
	listen    func() (net.Listener, error) // for the console; nil as configured
	adapt     func(o *console.Options)     // what differs for the console of a fleet; nil nothing
	reloads   *reloader                    // nil is never
	hup       <-chan os.Signal
}

// current is the configuration in force.
func (s *service) current() *config {
	if c := s.inForce.Load(); c != nil {
		return c
	}
	return s.cfg
}

// stopGrace is how long the stages may take to put down what they hold.
const stopGrace = 20 * time.Second

// run starts the stages, later ones first, and stops them in the order of the
// data: sources, then detection, then delivery.
func (s *service) run(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	defer func() {
		if err := s.db.Close(); err != nil {
			s.log.Error("cannot close the store", zap.Error(err))
		}
	}()
	sockets, err := s.openSockets(ctx)
	if err != nil {
		return err
	}
	if err := s.recordService(ctx, "service.start"); err != nil {
		return err
	}
	tuningCtx, stopTuning := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTuning()
	s.tuning = newTuning(tuningCtx, s)
	failed, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var late, collecting, detecting sync.WaitGroup
	// It answers from here on: to learn from long inputs takes a while.
	s.status.do("the inputs to be opened")
	sockets.serve(s, late.Go, fail)
	defer late.Wait()
	defer sockets.close()
	sources, err := s.sources(ctx)
	if err != nil {
		return err
	}
	s.status.do("the end of learning from what the inputs hold")
	if err := s.firstEdition(ctx, sources); err != nil {
		return err
	}
	deliverer, err := s.newDeliverer(ctx)
	s.deliverer.Store(deliverer)
	if err != nil {
		return err
	}
	s.status.do("the last checkpoint to be read")
	detect, err := s.newDetect(ctx)
	if err != nil {
		return err
	}

	detect.await(sources)
	if err := s.publishFacts(ctx, sources, detect.e.factsBody); err != nil {
		return err
	}
	configBody, err := s.publishConfig(ctx, s.cfg, s.text, detect.e.configBody)
	if err != nil {
		return err
	}
	if s.reloads != nil {
		s.reloads.deliverer, s.reloads.body = deliverer, configBody
	}
	if err := s.publishSuppressions(ctx, s.cfg); err != nil {
		return err
	}

	// Each stage has its own context: they end one after the other.
	lateCtx, stopLate := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLate()
	late.Go(func() { deliverer.Run(lateCtx) })
	late.Go(func() { s.wakeDelivery(lateCtx, deliverer) })
	late.Go(func() { s.retain(lateCtx) })
	late.Go(func() { s.watch(lateCtx, sources) })
	late.Go(func() { s.relearn(lateCtx) })
	late.Go(func() { s.rollUp(lateCtx) })
	if s.reloads != nil {
		late.Go(func() { s.reloads.run(failed, s.hup) })
	}
	if s.never != nil {
		late.Go(func() { s.keepLimits(lateCtx) })
	}
	if s.auditKey != nil {
		late.Go(func() { s.keepAuditSigned(lateCtx) })
	}
	detectCtx, stopDetect := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDetect()
	detecting.Go(func() {
		if err := detect.run(detectCtx); err != nil {
			fail(fmt.Errorf("detect: %w", err))
		}
	})
	collecting.Go(func() {
		if err := s.collect(failed, sources); err != nil {
			fail(fmt.Errorf("collect: %w", err))
		}
	})
	s.status.do("")
	s.log.Info("weir is running", zap.String("version", version), zap.Int("sources", len(sources)),
		zap.String("store", s.cfg.Store.Path), zap.String("http", s.url(sockets)))

	<-failed.Done()
	s.log.Info("stopping")
	stopTuning()
	s.status.do("its next start: it is stopping")
	timer := time.AfterFunc(stopGrace, func() {
		s.log.Error("stages did not stop in time; what they held is read again at the next start")
		os.Exit(exitFailed)
	})
	defer timer.Stop()
	collecting.Wait()
	stopDetect()
	detecting.Wait()
	sockets.shutdown(lateCtx, 2*time.Second)
	if err := s.recordService(lateCtx, "service.stop"); err != nil {
		s.log.Error("cannot say in the audit that weir stops", zap.Error(err))
	}
	stopLate()
	late.Wait()
	if cause := context.Cause(failed); ctx.Err() == nil && cause != nil {
		return cause
	}
	return nil
}

func (s *service) open(ctx context.Context) error {
	keyFile := s.cfg.Privacy.KeyFile
	if keyFile == "" {
		keyFile = storeKeyFile(s.cfg.Store.Path)
	}
	var err error
	if s.keys, err = pipeline.LoadOrCreatePrivacyKeys(keyFile); err != nil {
		return err
	}
	if s.pepper, err = console.LoadOrCreatePepper(s.cfg.pepperFile()); err != nil {
		return err
	}
	if path := s.cfg.Console.AuditKeyFile; path != "" {
		if s.auditKey, err = console.LoadOrCreateAuditKey(path); err != nil {
			return err
		}
		s.log.Info("the audit is signed", zap.String("key", s.auditKey.ID()))
	}
	logins, err := pipeline.NewLoginRules(s.cfg.Endpoints)
	if err != nil {
		return err
	}
	if s.id, err = s.cfg.newIdentity(s.keys, logins); err != nil {
		return err
	}
	for _, note := range s.id.Context().Notes() {
		s.log.Warn("some of a list does not count", zap.String("reason", note))
	}
	if d := s.cfg.Console.Decisions; d != nil && d.Enabled {
		if s.never, err = pipeline.NewNeverBlock(s.cfg.Identity, s.id.Context(), d.NeverBlock); err != nil {
			return err
		}
	}
	if s.db, err = sqlite.Open(s.cfg.Store.Path, sqlite.Options{}); err != nil {
		return err
	}
	s.requests = s.db
	s.metrics = newMetrics(s)
	processMetrics(s.metrics.registry, time.Now(), "run")
	last, err := s.db.Last(ctx)
	if err != nil {
		return errors.Join(err, s.db.Close())
	}
	s.status.appended.Store(last)
	s.status.started.Store(time.Now().Unix())
	return nil
}

// wakeDelivery tells the sinks of every new revision.
func (s *service) wakeDelivery(ctx context.Context, d *alerts.Deliverer) {
	var seq int64
	for ctx.Err() == nil {
		if err := s.db.WaitAlertsAfter(ctx, seq); err != nil {
			return
		}
		st, err := s.db.Stats(ctx)
		if err != nil {
			return
		}
		seq = st.Alerts
		d.Wake()
	}
}

func newLogger(c logConfig, w io.Writer) *zap.Logger {
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		level = zapcore.InfoLevel
	}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339TimeEncoder
	encoder := zapcore.NewJSONEncoder(enc)
	if c.Format == "text" {
		encoder = zapcore.NewConsoleEncoder(enc)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level))
}

// metrics are weir's own; those of delivery register themselves.
type metrics struct {
	registry *prometheus.Registry
	lines    prometheus.Counter
	requests prometheus.Counter
	rejects  *prometheus.CounterVec
	alerts   *prometheus.CounterVec
	shadow   *prometheus.CounterVec
	shed     prometheus.Counter
	full     prometheus.Counter
	pushed   *prometheus.CounterVec
	skipped  prometheus.Counter
	lastLine *prometheus.GaugeVec
	lost     *prometheus.GaugeVec
	packets  *packetMetrics
	blind    *prometheus.GaugeVec
	told     *prometheus.CounterVec

	sourceLines, sourceRejects *prometheus.CounterVec

	reloads  *prometheus.CounterVec
	reloadOK prometheus.Gauge
}

func newMetrics(s *service) *metrics {
	m := &metrics{
		registry:      prometheus.NewRegistry(),
		packets:       &packetMetrics{},
		lines:         prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_lines_total", Help: "Lines read, good and bad."}),
		requests:      prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_requests_total", Help: "Requests stored in the log."}),
		rejects:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_rejects_total", Help: "Lines that are no request, by reason."}, []string{"reason"}),
		alerts:        prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_alert_revisions_total", Help: "Alert revisions committed."}, []string{"detector", "severity", "change"}),
		shadow:        prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_shadow_findings_total", Help: "Findings of detectors in shadow mode, stored and never alerted."}, []string{"detector"}),
		shed:          prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_shed_requests_total", Help: "Stored requests given up because the disk was full."}),
		pushed:        prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_push_answers_total", Help: "Answers to senders of lines, by HTTP status."}, []string{"status"}),
		skipped:       prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_otlp_skipped_spans_total", Help: "Spans that are no server's HTTP request."}),
		lastLine:      prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "weir_source_last_line_timestamp_seconds", Help: "When the last line of a source was stored."}, []string{"source"}),
		lost:          prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "weir_source_lost", Help: "Of a source, since the start: datagrams without room, packets that the kernel dropped, rotated logs without their end, messages that left a topic unread."}, []string{"source"}),
		blind:         prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "weir_blindspot_share", Help: "Share of the requests that lack what a detector needs at all endpoints, by detector, what is missing, and what that costs: all, some, time, precision."}, []string{"detector", "cause", "loses"}),
		told:          prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_health_told_total", Help: "Findings about weir's own sight that were told, each again while it lasts."}, []string{"detector"}),
		sourceLines:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_source_lines_total", Help: "Lines read of a source, good and bad."}, []string{"source"}),
		sourceRejects: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_source_rejects_total", Help: "Lines of a source that are no request."}, []string{"source"}),
		full:          prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_store_full_total", Help: "Writes that found the disk full."}),
	}
	m.reloads, m.reloadOK = reloadMetrics()
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	st := &s.status
	m.registry.MustRegister(m.lines, m.requests, m.rejects, m.alerts, m.shadow, m.shed, m.full, m.pushed, m.skipped, m.lastLine, m.lost, m.blind, m.told, m.sourceLines, m.sourceRejects, m.packets, m.reloads, m.reloadOK,
		gauge("weir_log_position", "Last position of the requests log.", func() float64 { return float64(st.appended.Load()) }),
		gauge("weir_detect_position", "Position of the requests log that detection has dealt with.", func() float64 { return float64(st.detected.Load()) }),
		gauge("weir_detect_lag_records", "Records of the requests log that wait for detection.", func() float64 { return float64(max(0, st.appended.Load()-st.detected.Load())) }),
		gauge("weir_detect_lag_seconds", "Age of the event time that detection has reached; large while history is read.", st.lagSeconds),
		gauge("weir_heartbeat_timestamp_seconds", "When detection last looked for work and could: it stands still when weir does.", func() float64 { return float64(st.beat.Load()) / 1e6 }),
		gauge("weir_principals", "Principals in memory.", func() float64 { return float64(st.principals.Load()) }),
		gauge("weir_profiles", "Principals with a full profile.", func() float64 { return float64(st.profiles.Load()) }),
		gauge("weir_case_files", "Principals with evidence worth keeping examples of.", func() float64 { return float64(st.cases.Load()) }),
		gauge("weir_evictions", "Principals dropped from memory to bound it, since the start.", func() float64 { return float64(st.evictions.Load()) }),
		gauge("weir_late_requests", "Requests that came after their place in the order.", func() float64 { return float64(st.late.Load()) }),
		gauge("weir_duplicate_requests", "Requests that another source showed already, by their id.", func() float64 { return float64(st.copies.Load()) }),
		gauge("weir_skewed_requests", "Requests whose time was far ahead of their neighbours.", func() float64 { return float64(st.skewed.Load()) }),
		gauge("weir_store_bytes", "Bytes of the store file in use.", func() float64 { return float64(st.storeBytes.Load()) }),
		gauge("weir_replay_differences", "Outputs of a replay that differ from what is stored: a bug if not 0.", func() float64 { return float64(st.differences.Load()) }),
	)
	return m
}
