package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"weir/pipeline"
	"weir/storage"
	"weir/storage/sqlite"
)

// verify reads the store back: each acknowledged line must be there.
func verify(out io.Writer, store string, l *load) error {
	db, err := sqlite.Open(store, sqlite.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	ctx := context.Background()
	times := make([]uint8, l.bodies*l.p.batch)
	odd, n := 0, 0
	err = db.Requests(ctx, storage.RequestFilter{Limit: math.MaxInt}, func(r *pipeline.Request, _ string) bool {
		n++
		id, ok := strings.CutPrefix(r.Path, pathPrefix)
		i, err := strconv.Atoi(id)
		if !ok || err != nil || i < 0 || i >= len(times) || l.p.isMalformed(i) {
			odd++
			return true
		}
		if times[i] < 255 {
			times[i]++
		}
		return true
	})
	if err != nil {
		return err
	}
	var lost, again, sent, bad int
	for i, c := range times {
		switch {
		case l.p.isMalformed(i):
			bad++
			continue
		case !l.acked[i/l.p.batch].Load():
			continue
		}
		sent++
		if c == 0 {
			lost++
		} else if c > 1 {
			again += int(c) - 1
		}
	}
	st, err := db.Stats(ctx)
	if err != nil {
		return err
	}
	var lines, rejected int64
	for _, s := range st.Sources {
		lines, rejected = lines+s.Lines, rejected+s.Rejected
	}
	fmt.Fprintf(out, "stored %d requests; of %d acknowledged lines %d are lost, %d were stored again; %d lines of others\n", n, sent, lost, again, odd)
	fmt.Fprintf(out, "counted %d lines, %d rejected; sent %d malformed; replay differences %d\n", lines, rejected, bad, st.ReplayDifferences)
	switch {
	case sent == 0:
		return errors.New("nothing was acknowledged")
	case lost > 0 || odd > 0:
		return fmt.Errorf("%d lines are lost, %d are not as sent", lost, odd)
	case rejected < int64(bad):
		return fmt.Errorf("%d malformed lines were sent, %d counted", bad, rejected)
	case l.p.keys && again > 0:
		return fmt.Errorf("%d lines are stored again, and each body had a key", again)
	case int64(again) > l.unsure.Load()*int64(l.p.batch):
		return fmt.Errorf("%d lines are stored again, and %d bodies had no sure answer", again, l.unsure.Load())
	case st.ReplayDifferences > 0:
		return errors.New("a replay gave something else")
	}
	return nil
}
