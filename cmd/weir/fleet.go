package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"weir/console"
	"weir/pipeline"
	"weir/pipeline/kafka"
)

const fleetHelp = `Usage: weir ROLE[,ROLE...] -c weir.yaml [flags]

Runs one or several roles of a fleet, which share the Kafka cluster of the
configuration's bus. All processes of a fleet get the same configuration, but
for collect, and the same privacy.key_file.

  collect      reads the sources and writes requests to the bus
  detect       judges clients: several processes share them
  correlate    sees together what several clients did: several processes share it
  alert        makes alerts of what the others find: one works, others stand by
  store        puts requests and alerts into ClickHouse: several processes share it
  serve        the console and the API of the fleet (console.listen): one process

  weir collect -c /etc/weir/weir.yaml
  weir detect,correlate -c /etc/weir/weir.yaml

A process that is killed goes on where it was when it is started again. Stop it
with Ctrl-C or SIGTERM. SIGHUP, or a change of the configuration file, reloads
detectors' modes, endpoints' weights, suppressions, sinks and routes: of any process,
for the whole fleet.

Flags:
  -c FILE              configuration
  --edition FILE       detect with this edition and learn no other: give it to all
                       processes of a fleet (default: learn on the way)
  --listen ADDRESS     HTTP: health and metrics (console.metrics_listen; none when absent)
  --workers N          goroutines (default: one per CPU)
  --new-desk           serve: begin without the triage, users, tokens and audit of the
                       fleet's console, whose file is lost
`

// role is a part of a fleet.
type role struct {
	name    string
	summary string
	run     func(ctx context.Context, f *fleet) error
}

func roles() []role {
	return []role{
		{"collect", "of a fleet: read the sources and write requests to the bus", runCollect},
		{"detect", "of a fleet: judge clients, shared by several processes", runDetect},
		{"correlate", "of a fleet: see together what several clients did", runCorrelate},
		{"alert", "of a fleet: make alerts of what the others find", runAlert},
		{"store", "of a fleet: put requests and alerts into ClickHouse", runStore},
		{"serve", "of a fleet: the console and the API", runServe},
	}
}

// rolesOf reads a command like detect,correlate; ok is false when it is none.
func rolesOf(command string) (list []role, ok bool) {
	for name := range strings.SplitSeq(command, ",") {
		i := slices.IndexFunc(roles(), func(r role) bool { return r.name == name })
		if i < 0 || slices.ContainsFunc(list, func(r role) bool { return r.name == name }) {
			return nil, false
		}
		list = append(list, roles()[i])
	}
	return list, true
}

// namesOf returns how roles are called.
func namesOf(list []role) (names []string) {
	for _, r := range list {
		names = append(names, r.name)
	}
	return names
}

// fleet is a process of one: what its roles share.
type fleet struct {
	service
	bus      *kafka.Bus
	topics   busTopics
	instance string
	edition  *pipeline.Edition // to start with
	given    bool              // the edition, so that none is learned here
	start    *fleetStart       // with what the fleet began; nil where nothing is judged
	reloads  *fleetReloader
	codec    *pipeline.Codec
	sender   *busSender
	controls *controlBook
	health   *fleetHealth
	progress progressBook
	newDesk  bool
	reloaded atomic.Pointer[tuning] // is told when the file was read again; nil without a console
	// collecting are the sources that this process reads; nil none.
	collecting atomic.Pointer[[]*source]
	waiting    atomic.Pointer[func(context.Context) []string] // what the console waits for; nil without one
}

// shape is into how many slices the stages are dealt.
func (f *fleet) shape() fleetShape { return fleetShape{f.cfg.Bus.Partitions} }

// tail calls g with the records of a partition from an offset on until ctx ends or
// g fails.
func (f *fleet) tail(ctx context.Context, topic string, partition int, from int64, g func(kafka.Record) error) error {
	t, err := f.bus.NewTail(ctx, topic, partition, from, false)
	if err != nil {
		return err
	}
	defer t.Close()
	for {
		r, err := t.Next(ctx)
		if err == nil {
			err = g(r)
		}
		if err != nil {
			return err
		}
	}
}

func runRoles(ctx context.Context, command string, list []role, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var path, listen, edition string
	var workers int
	var newDesk bool
	fs := flag.NewFlagSet(command, flag.ContinueOnError)
	fs.StringVar(&path, "c", "", "")
	fs.StringVar(&listen, "listen", "", "")
	fs.StringVar(&edition, "edition", "", "")
	fs.IntVar(&workers, "workers", runtime.GOMAXPROCS(0), "")
	fs.BoolVar(&newDesk, "new-desk", false, "")
	rest, code, done := parseFlags(fs, fleetHelp, args, stdout, stderr)
	if done {
		return code
	}
	if path == "" || len(rest) > 0 {
		fmt.Fprint(stderr, fleetHelp)
		return exitUsage
	}
	fail := func(err error) int {
		fmt.Fprintf(stderr, "weir %s: %v\n", command, err)
		return exitFailed
	}
	hup, ignore := hangups()
	defer ignore()
	text, err := readSmall(path) // before it is read to be used: a change in between is noticed
	if err != nil {
		return fail(err)
	}
	load := func() (*config, error) {
		cfg, err := loadConfig(path)
		if err == nil && listen != "" {
			cfg.Console.MetricsListen = listen
		}
		return cfg, err
	}
	cfg, err := load()
	if err != nil {
		return fail(err)
	}
	if !cfg.Bus.on() {
		return fail(fmt.Errorf("configuration %s: bus.brokers: it is empty: the roles share a Kafka cluster", path))
	}
	if cfg.Privacy.KeyFile == "" {
		return fail(fmt.Errorf("configuration %s: privacy.key_file: it is empty: all processes of a fleet need the same key", path))
	}
	limitService()
	f := &fleet{service: service{cfg: cfg, log: newLogger(cfg.Log, stderr), workers: workers, stdin: stdin, stderr: stderr, path: path, text: text}, newDesk: newDesk, edition: pipeline.ShippedEdition(), codec: pipeline.NewCodec()}
	f.reloads = &fleetReloader{f: f, load: load, hup: hup, file: reloader{path: path, file: sumOf(text)}}
	if edition != "" {
		f.given = true
		if f.edition, err = pipeline.ReadEdition(edition); err != nil {
			return fail(err)
		}
	}
	defer func() { _ = f.log.Sync() }()
	if err := f.run(ctx, list); err != nil {
		return fail(err)
	}
	return exitOK
}

// run runs roles until ctx ends or one of them fails.
func (f *fleet) run(ctx context.Context, list []role) error {
	if err := f.open(ctx); err != nil {
		return err
	}
	defer f.bus.Close()
	processMetrics(f.metrics.registry, f.status.startedAt(), namesOf(list)...)
	stopHTTP, err := f.serveHealth(list)
	if err != nil {
		return err
	}
	defer stopHTTP()
	judges := slices.ContainsFunc(list, func(r role) bool { return r.name != "collect" && r.name != "store" && r.name != "serve" })
	if judges {
		if err := f.settle(ctx); err != nil {
			return err
		}
	}
	failed, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	// It sends what the roles say until all of them have ended.
	sending, stopSending := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSending()
	var running, sender sync.WaitGroup
	defer sender.Wait()
	defer stopSending()
	sender.Go(func() {
		if err := f.sender.run(sending); err != nil {
			fail(err)
		}
	})
	running.Go(func() { f.beat(failed, list) })
	running.Go(func() { f.reloads.run(failed, judges) })
	for _, r := range list {
		running.Go(func() {
			if err := r.run(failed, f); err != nil {
				fail(fmt.Errorf("%s: %w", r.name, err))
			}
		})
	}
	<-failed.Done()
	f.log.Info("stopping")
	timer := time.AfterFunc(stopGrace, func() {
		f.log.Error("roles did not stop in time; what they held is read again at the next start")
		os.Exit(exitFailed)
	})
	defer timer.Stop()
	running.Wait()
	if cause := context.Cause(failed); ctx.Err() == nil {
		return cause
	}
	return nil
}

// open connects to the bus, makes its topics and sees that the process fits the
// fleet.
func (f *fleet) open(ctx context.Context) error {
	var err error
	if f.keys, err = pipeline.LoadOrCreatePrivacyKeys(f.cfg.Privacy.KeyFile); err != nil {
		return err
	}
	logins, err := pipeline.NewLoginRules(f.cfg.Endpoints)
	if err != nil {
		return err
	}
	if f.id, err = f.cfg.newIdentity(f.keys, logins); err != nil {
		return err
	}
	for _, note := range f.id.Context().Notes() {
		f.log.Warn("some of a list does not count", zap.String("reason", note))
	}
	f.metrics = newMetrics(&f.service)
	busMetrics := kafka.NewMetrics()
	f.metrics.registry.MustRegister(busMetrics)
	f.health, f.progress.at = newFleetHealth(), map[sliceName]int64{}
	f.metrics.registry.MustRegister(f.health.all()...)
	cluster, err := f.cfg.Bus.cluster()
	if err != nil {
		return err
	}
	if f.bus, err = kafka.NewBus(cluster, f.log, busMetrics); err != nil {
		return err
	}
	f.bus.Session = time.Duration(f.cfg.Bus.SessionTimeout)
	f.topics = f.cfg.Bus.topics()
	if f.instance, err = f.cfg.Bus.instance(); err != nil {
		return err
	}
	f.sender, f.controls = newBusSender(f.bus, f.topics, f.shape()), newControlBook(f.bus, f.topics)
	f.status.started.Store(time.Now().Unix())
	if err := f.ensureTopics(ctx); err != nil {
		return err
	}
	return f.checkPrivacy(ctx)
}

// ensureTopics tries until brokers answer: they may start after weir.
func (f *fleet) ensureTopics(ctx context.Context) error {
	warned := false
	for {
		within, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := f.bus.Ensure(within, f.cfg.Bus.specs())
		cancel()
		if err == nil || errors.Is(err, kafka.ErrTopic) || ctx.Err() != nil {
			return err
		}
		if !warned {
			warned = true
			f.log.Warn("waiting for brokers", zap.Error(err))
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// serveHealth serves health and metrics, where it is told to.
func (f *fleet) serveHealth(list []role) (stop func(), err error) {
	socket, err := f.cfg.Console.OpenMetrics()
	if err != nil || socket == nil {
		return func() {}, err
	}
	server := console.NewMetricsServer(console.Options{
		Waits: func(ctx context.Context) []string {
			if doing := f.status.doing.Load(); doing != nil {
				return []string{*doing}
			}
			if waits := f.waiting.Load(); waits != nil {
				return (*waits)(ctx)
			}
			return nil
		},
		Pepper: &console.Pepper{}, Metrics: ofRoles(f.metrics.registry, list), Log: f.log, Open: true,
	})
	go func() {
		if err := server.Serve(socket); err != nil && !errors.Is(err, http.ErrServerClosed) {
			f.log.Error("health and metrics are not served any more", zap.Error(err))
		}
	}()
	f.log.Info("health and metrics", zap.String("http", "http://"+addressOf(socket)))
	return func() { _ = server.Close() }, nil
}

func addressOf(l net.Listener) string { return l.Addr().String() }

// runCollect reads the sources into the bus.
func runCollect(ctx context.Context, f *fleet) (err error) {
	if len(f.cfg.Collect) == 0 {
		return errors.New("nothing to read: the configuration has no collect")
	}
	l, err := openFleetLog(ctx, f.bus, &f.cfg.Bus)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close(context.WithoutCancel(ctx))) }()
	f.requests = l
	sources, err := f.sources(ctx)
	if err != nil {
		return err
	}
	if err := f.tellSources(ctx, l, sources); err != nil {
		return err
	}
	f.collecting.Store(&sources)
	f.log.Info("weir is collecting", zap.String("version", version), zap.String("instance", l.instance), zap.Int("sources", len(sources)), zap.Strings("bus", f.cfg.Bus.Brokers))
	rhythms, err := f.openRhythms(ctx, l, sources)
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	var watch sync.WaitGroup
	watch.Go(func() {
		f.watchBy(watching, sources, healthWays{name: l.busName, rhythm: rhythms.rhythm, raise: f.tellHealth})
	})
	err = f.collect(ctx, sources)
	stop()
	watch.Wait()
	rhythms.close(context.WithoutCancel(ctx))
	if err == nil {
		leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.letGoWithin())
		defer cancel()
		err = f.appendControl(leaving, controlStopped, nil)
	}
	return err
}
