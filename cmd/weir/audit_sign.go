package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"go.uber.org/zap"

	"weir/console"
	"weir/storage/sqlite"
)

// signEvery is how often the audit is signed while something is written into it.
const signEvery = time.Hour

// signAudit signs the audit as far as it goes, unless the last row is a signature
// itself or there is no key.
func (s *service) signAudit(ctx context.Context) error {
	if s.auditKey == nil {
		return nil
	}
	_, last, err := s.db.AuditBounds(ctx)
	if err != nil || last == 0 {
		return err
	}
	rows, err := s.db.AuditAfter(ctx, last-1, 1)
	if err != nil || len(rows) == 0 {
		return err
	}
	if c, _, err := console.ReadCheckpoint(rows[0].Body); err == nil && c != nil {
		return nil
	}
	e, err := s.auditKey.Checkpoint(rows[0].Seq, rows[0].Hash, serviceWho(), timeOf(time.Now()))
	if err != nil {
		return err
	}
	entry, err := auditEntry(e)
	if err != nil {
		return err
	}
	return s.db.AppendAudit(ctx, entry)
}

// serviceWho is weir run itself, for the audit.
func serviceWho() console.AuditWho {
	return console.AuditWho{Kind: "service", ID: strconv.Itoa(os.Getpid()), Name: "weir " + version}
}

// keepAuditSigned signs the audit until ctx ends.
func (s *service) keepAuditSigned(ctx context.Context) {
	tick := time.NewTicker(signEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.signAudit(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("cannot sign the audit", zap.Error(err))
		}
	}
}

// signatures is what a walk over the checkpoints of the audit found.
type signatures struct {
	good, unknown int
	through       int64 // of the last good one
	at            string
}

// checkSignatures walks along the checkpoints of an audit whose chain is whole.
// One that does not fit the chain, or that one of keys should have signed and did
// not, is an error.
func checkSignatures(ctx context.Context, db *sqlite.DB, keys []*console.AuditKey) (n signatures, err error) {
	first := int64(0)
	for seq := int64(0); ; {
		rows, err := db.AuditAfter(ctx, seq, 500)
		if err != nil || len(rows) == 0 {
			return n, err
		}
		for i := range rows {
			seq = rows[i].Seq
			if first == 0 {
				first = seq
			}
			c, at, err := console.ReadCheckpoint(rows[i].Body)
			if err != nil {
				return n, fmt.Errorf("row %d: %w", seq, err)
			}
			if c == nil {
				continue
			}
			if err := fitsChain(ctx, db, c, seq, first); err != nil {
				return n, fmt.Errorf("row %d: %w", seq, err)
			}
			known := false
			for _, k := range keys {
				if k.ID() != c.Key {
					continue
				}
				if known = k.Signed(c, at); !known {
					return n, fmt.Errorf("row %d: the signature is not that of the key it names", seq)
				}
			}
			if !known {
				n.unknown++
				continue
			}
			n.good++
			n.through, n.at = c.Through, dateOf(at, "")
		}
	}
}

// fitsChain looks for the row that c at seq signs; the first row that is left
// knows the hash of the one before it.
func fitsChain(ctx context.Context, db *sqlite.DB, c *console.AuditCheckpoint, seq, first int64) error {
	if c.Through >= seq {
		return errors.New("the checkpoint signs what comes behind it")
	}
	if c.Through < first-1 {
		return nil // retention removed it
	}
	rows, err := db.AuditAfter(ctx, max(c.Through, first)-1, 1)
	if err != nil || len(rows) == 0 {
		return errors.Join(err, errors.New("the row that it signs is gone"))
	}
	hash := rows[0].Hash
	if c.Through < first {
		hash = rows[0].Prev
	}
	if hex.EncodeToString(hash) != c.Hash {
		return fmt.Errorf("row %d is not what was signed", c.Through)
	}
	return nil
}

// say writes what checkSignatures found; with keys one good signature is wanted
// at least.
func (n signatures) say(stdout io.Writer, keys int, last int64) error {
	switch {
	case keys > 0 && n.good == 0:
		return errors.New("no checkpoint is signed by these keys")
	case n.good > 0:
		// The checkpoint itself is one of the rows behind.
		fmt.Fprintf(stdout, "signed: %d checkpoints, the last one of %s through row %d; rows behind it: %d\n", n.good, n.at, n.through, last-n.through-1)
	}
	if n.unknown > 0 {
		fmt.Fprintf(stdout, "not checked: %d checkpoints of other keys; --key checks them\n", n.unknown)
	}
	return nil
}
