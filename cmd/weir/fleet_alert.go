package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/zeebo/xxh3"
	"go.uber.org/zap"

	"weir/alerts"
	"weir/pipeline"
	"weir/pipeline/kafka"
)

// runAlert keeps the incidents: one process of a fleet is active, the others wait to
// take over.
func runAlert(ctx context.Context, f *fleet) error {
	return f.runUnits(ctx, "alert", f.topics.findings, func(int) roleSlice {
		return &alertUnit{f: f, log: f.log.With(zap.String("role", "alert"))}
	})
}

// alertsKey is what the active process claims in the topic of alerts.
const alertsKey = "alerts"

// sentAlert is a revision in the topic of alerts.
type sentAlert struct {
	Backfill bool            `json:"backfill,omitempty"`
	Alert    json.RawMessage `json:"alert"`
}

// alertUnit runs the alert stage.
type alertUnit struct {
	f       *fleet
	log     *zap.Logger
	member  *alertMember
	state   *kafka.State
	next    int64 // of the topic of findings
	feed    *kafka.Producer
	epoch   int64                   // in the feed
	end     int64                   // of the feed, behind what this process appended
	there   map[string]xxh3.Uint128 // revisions in the feed that the state does not know yet, by id.revision
	out     []pipeline.Alert
	store   *feedStore
	sinks   *alerts.Deliverer // nil without sinks, and while it does not run
	silent  *silenceKeeper
	shadows *shadowKeeper
}

// alertUnitHead is the state of the stage.
type alertUnitHead struct {
	Feed   int64           `json:"feed"` // everything before this offset of the feed is of before the state
	Member json.RawMessage `json:"member"`
	Watch  json.RawMessage `json:"watch,omitempty"` // of collectors
}

// open implements roleSlice.
func (u *alertUnit) open(ctx context.Context) error {
	var err error
	if u.member, err = newAlertMember(u.f.cfg, u.f.shape(), u.f.edition); err != nil {
		return err
	}
	if u.state, err = u.f.bus.OpenState(ctx, u.f.topics.state, 0, "alert/0", u.f.instance); err != nil {
		return err
	}
	u.feed = u.f.bus.NewProducer(u.f.topics.alerts, 0, true)
	if u.epoch, err = u.feed.Claim(ctx, []byte(alertsKey), u.f.instance); err != nil {
		return err
	}
	var head alertUnitHead
	if data, _, ok := u.state.Checkpoint(); ok {
		if err := json.Unmarshal(data, &head); err != nil {
			return fmt.Errorf("read the state of alert: %w", err)
		}
		if u.next, err = u.member.restore(head.Member); err != nil {
			return err
		}
	} else if err := u.member.begin(u.f.start); err != nil {
		return err
	}
	u.silent = newSilenceKeeper(u.f, u.log)
	if err := u.silent.restore(head.Watch); err != nil {
		return fmt.Errorf("read the state of alert: %w", err)
	}
	if u.shadows, err = u.f.openShadows(ctx); err != nil {
		return err
	}
	u.f.progress.reach(stageAlert, 0, u.next)
	u.end = u.epoch + 1
	u.there = map[string]xxh3.Uint128{}
	if u.store, err = openFeedStore(ctx, u.f.bus, u.f.topics); err != nil {
		return err
	}
	err = readFeed(ctx, u.f.bus, u.f.topics.alerts, u.store.needs(head.Feed), u.epoch+1, func(key string, offset int64, a *sentAlert) error {
		if offset >= head.Feed {
			u.there[key] = xxh3.Hash128(a.Alert)
		}
		return u.store.add(offset, a)
	})
	u.store.end = u.epoch + 1
	return err
}

// readFeed calls f with every revision in [from, to) of the topic of alerts, once
// each, under its id.revision. The record at to-1 must be there.
func readFeed(ctx context.Context, bus *kafka.Bus, topic string, from, to int64, f func(key string, offset int64, a *sentAlert) error) error {
	fence := kafka.NoEpoch
	seen := map[string]bool{}
	return bus.ReadRange(ctx, topic, 0, from, to, false, func(r kafka.Record) error {
		if r.Claim {
			fence = max(fence, r.Offset)
			return nil
		}
		var a sentAlert
		var id struct {
			ID       string `json:"id"`
			Revision int    `json:"revision"`
		}
		if err := json.Unmarshal(r.Value, &a); err != nil {
			return fmt.Errorf("read the alert at offset %d of %s: %w", r.Offset, topic, err)
		}
		if err := json.Unmarshal(a.Alert, &id); err != nil {
			return fmt.Errorf("read the alert at offset %d of %s: %w", r.Offset, topic, err)
		}
		key := fmt.Sprintf("%s.%d", id.ID, id.Revision)
		if r.Epoch < fence || seen[key] {
			return nil
		}
		seen[key] = true
		return f(key, r.Offset, &a)
	})
}

// close implements roleSlice.
func (u *alertUnit) close() {
	u.f.progress.leave(stageAlert, 0)
	if u.state != nil {
		u.state.Close()
	}
	if u.feed != nil {
		u.feed.Close()
	}
	if u.store != nil {
		u.store.close()
	}
}

// run implements roleSlice.
func (u *alertUnit) run(ctx context.Context) error {
	u.log.Info("alerts are made here")
	sinks, err := u.f.deliverer(u.store)
	if err != nil {
		return err
	}
	if u.sinks = sinks; sinks != nil {
		u.f.service.deliverer.Store(sinks)
		defer u.f.service.deliverer.Store(nil)
		// What sinks take is delivered until all that can be done here is done.
		delivering, stop := context.WithCancel(context.WithoutCancel(ctx))
		var all sync.WaitGroup
		all.Go(func() { sinks.Run(delivering) })
		defer all.Wait()
		defer stop()
	}
	u.f.health.alerting.Set(1)
	defer u.f.health.alerting.Set(0)
	running, fail := context.WithCancelCause(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		if err := u.silent.run(running); err != nil {
			fail(fmt.Errorf("watch the collectors: %w", err))
		}
	})
	watcher.Go(func() {
		if err := newLagKeeper(u.f).run(running, u.sinkLags); err != nil {
			fail(fmt.Errorf("watch who is behind: %w", err))
		}
	})
	defer watcher.Wait()
	defer fail(nil)
	for running.Err() == nil {
		err := u.read(running)
		if errors.Is(err, kafka.ErrFenced) {
			u.log.Warn("another process makes the alerts", zap.Error(err))
			fail(nil)
			<-ctx.Done() // the group will say so too
			return errStale
		}
		if err != nil {
			return err
		}
	}
	letting, cancel := context.WithTimeout(context.WithoutCancel(ctx), u.f.letGoWithin())
	defer cancel()
	if err := u.checkpoint(letting); err != nil {
		u.log.Warn("alerts are let go without a checkpoint: they are made again from the last one", zap.Error(err))
		return errStale
	}
	if ctx.Err() == nil {
		return context.Cause(running)
	}
	return nil
}

// sinkLags is how far the sinks are behind.
func (u *alertUnit) sinkLags() (list []sinkLag) {
	if u.sinks == nil {
		return nil
	}
	for _, s := range u.sinks.Status() {
		list = append(list, sinkLag{name: s.Name, state: s.State, reason: s.Reason, alerts: s.Lag, age: s.Age})
	}
	return list
}

// read takes findings until ctx ends, or some have to be read again.
func (u *alertUnit) read(ctx context.Context) error {
	reading, stop := context.WithCancel(ctx)
	items := make(chan bundleItem[pipeline.Finding], 8)
	var reader sync.WaitGroup
	reader.Go(func() {
		readBundles(reading, u.f, u.f.topics.findings, 0, u.next, u.f.codec.DecodeFindings, items)
	})
	defer reader.Wait()
	defer stop()
	work := context.WithoutCancel(ctx)
	tick := time.NewTicker(fleetCheckpoint)
	defer tick.Stop()
	for {
		select {
		case item := <-items:
			if item.err != nil {
				return item.err
			}
			out, err := u.member.push(u.out[:0], item.offset, item.bundle, u.f.controls.look(ctx))
			if err != nil {
				return err
			}
			u.out = out
			if err := u.publish(work, out); err != nil {
				return err
			}
			u.next = item.offset + 1
			u.f.progress.reach(stageAlert, 0, u.next)
			u.f.eventTime(u.member.last)
			if position, again := u.member.in.Rewind(); again {
				u.next = position
				return nil
			}
		case <-tick.C:
			u.f.eventTime(u.member.last)
			if err := u.checkpoint(work); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// publish appends revisions to the feed, but for those that are there from before a
// replay.
func (u *alertUnit) publish(ctx context.Context, list []pipeline.Alert) error {
	for i := range u.member.shadow {
		u.f.metrics.shadow.WithLabelValues(u.member.shadow[i].Detector).Inc()
	}
	u.shadows.add(u.member.shadow)
	u.member.shadow = u.member.shadow[:0]
	var records []kafka.Record
	for i := range list {
		a := &list[i]
		body := alerts.AppendJSON(nil, a)
		key := fmt.Sprintf("%s.%d", a.ID, a.Revision)
		if hash, there := u.there[key]; there {
			delete(u.there, key)
			if hash != xxh3.Hash128(body) {
				u.f.status.differences.Add(1)
				u.log.Error("a replay gave another alert than before: please report this", zap.String("alert", key))
			}
			continue
		}
		value, err := json.Marshal(sentAlert{Backfill: alerts.Backfill(a), Alert: body})
		if err != nil {
			return err
		}
		records = append(records, kafka.Record{Key: []byte(a.ID), Value: value, Epoch: u.epoch})
		u.f.metrics.alerts.WithLabelValues(a.Detector, a.Severity, a.Change.Kind).Inc()
	}
	if len(records) == 0 {
		return nil
	}
	w, err := u.feed.Append(ctx, records)
	if err != nil {
		return fmt.Errorf("publish alerts: %w", err)
	}
	from := u.end
	u.end = w.Next
	if w.First != from || w.Next-w.First != int64(w.Parts) {
		err := u.f.bus.ReadRange(ctx, u.f.topics.alerts, 0, from, w.Next, false, func(r kafka.Record) error {
			if r.Claim && r.Offset > u.epoch {
				return fmt.Errorf("the alerts: %w", u.f.bus.Fenced(u.f.topics.alerts))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for i := range records {
		var a sentAlert
		if err := json.Unmarshal(records[i].Value, &a); err != nil {
			return err
		}
		if err := u.store.add(records[i].Offset, &a); err != nil {
			return err
		}
	}
	if u.sinks != nil {
		u.sinks.Wake()
	}
	return nil
}

// checkpoint keeps the state.
func (u *alertUnit) checkpoint(ctx context.Context) error {
	if err := u.writeShadows(ctx); err != nil {
		return fmt.Errorf("keep cases of detectors in shadow mode: %w", err)
	}
	member, err := u.member.state()
	if err != nil {
		return err
	}
	watch, err := u.silent.state()
	if err != nil {
		return err
	}
	head, err := json.Marshal(alertUnitHead{Feed: u.end, Member: member, Watch: watch})
	if err != nil {
		return err
	}
	u.state.Begin()
	return u.state.Finish(ctx, head)
}
