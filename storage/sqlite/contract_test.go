package sqlite

import (
	"context"
	"testing"

	"weir/pipeline"
	"weir/storage"
	"weir/storage/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Empty {
		db := openTest(t)
		return storetest.Empty{
			Store: db,
			Append: func(ctx context.Context, blocks []*pipeline.Block) error {
				_, _, err := db.AppendBlocks(ctx, blocks)
				return err
			},
			Commit: func(ctx context.Context, list []storage.AlertRevision) error {
				return db.Commit(ctx, storage.Output{Stage: "alert", Alerts: list})
			},
		}
	})
}
