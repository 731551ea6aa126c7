package destination

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
)

// maxUploadPages bounds the pages of unfinished uploads that one sweep reads.
const maxUploadPages = 100

// Sweep aborts unfinished uploads and removes files. After a refusal of the one it tries the other.
func (b *bucket) Sweep(ctx context.Context, olderThan time.Time) (int, error) {
	ctx, op := begin(ctx, b.idle)
	defer op.end()
	aborted, abortErr := b.abortUploads(ctx, op, olderThan)
	removed, removeErr := b.removeLeftovers(ctx, op, olderThan)
	return aborted + removed, errors.Join(abortErr, removeErr)
}

func (b *bucket) abortUploads(ctx context.Context, op *operation, olderThan time.Time) (aborted int, err error) {
	var key, id string
	for range maxUploadPages {
		page, err := b.client.ListMultipartUploads(ctx, b.name, b.prefix, key, id, "/", maxPage)
		if err != nil {
			return aborted, b.failure(ctx, op, "list the unfinished uploads", "", err)
		}
		for _, upload := range page.Uploads {
			name, below := strings.CutPrefix(upload.Key, b.prefix)
			if !below || checkName(name) != nil || upload.Initiated.IsZero() || !upload.Initiated.Before(olderThan) {
				continue
			}
			if err := b.abort(ctx, upload.Key, upload.UploadID); err != nil {
				return aborted, err
			}
			aborted++
		}
		if key, id = page.NextKeyMarker, page.NextUploadIDMarker; !page.IsTruncated {
			break
		}
	}
	return aborted, nil
}

func (b *bucket) removeLeftovers(ctx context.Context, op *operation, olderThan time.Time) (removed int, err error) {
	found := leftovers{olderThan: olderThan}
	if err := b.walk(ctx, found.add); err != nil {
		return 0, b.failure(ctx, op, "list", "", err)
	}
	for name := range found.names() {
		if err := b.client.RemoveObject(ctx, b.name, b.prefix+name, minio.RemoveObjectOptions{}); err != nil {
			return removed, b.failure(ctx, op, "remove", name, err)
		}
		removed++
	}
	return removed, nil
}
