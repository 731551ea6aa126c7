package destination

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/securenotes/securenotes/app/config"
)

// bucket is a bucket, or the part of it below a prefix.
type bucket struct {
	client minio.Core
	name   string
	prefix string
	// at names the destination.
	at string
	// idle, partSize and maxParts are idleTimeout, partSize and maxParts, except in tests.
	idle     time.Duration
	partSize int
	maxParts int
}

func newBucket(c config.ObjectStore) (*bucket, error) {
	at, err := c.Parse()
	if err != nil {
		return nil, fmt.Errorf("backup.destination.objectStore.url %w", err)
	}
	transport, err := newTransport(c.CAFile)
	if err != nil {
		return nil, err
	}
	var provider credentials.Provider = &keyFiles{c.CredentialsDirectory}
	if c.CredentialsDirectory == "" {
		if provider, err = newWebIdentity(at.Region); err != nil {
			return nil, err
		}
	}
	client, err := minio.NewCore(at.Host, &minio.Options{
		Creds: credentials.New(provider), Secure: true, Transport: watched{transport}, Region: at.Region,
		BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		return nil, fmt.Errorf("backup.destination.objectStore.url: %w", err)
	}
	return &bucket{
		client: *client, name: at.Bucket, prefix: at.Prefix, at: strings.TrimSuffix("https://"+at.Host+"/"+at.Bucket+"/"+at.Prefix, "/"),
		idle: idleTimeout, partSize: partSize, maxParts: maxParts,
	}, nil
}

// String names the bucket and the prefix.
func (b *bucket) String() string { return b.at }

// Open starts a download, which ends when its content is closed.
func (b *bucket) Open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	if err := checkName(name); err != nil {
		return nil, 0, err
	}
	ctx, op := begin(ctx, b.idle)
	op.file = true
	body, info, _, err := b.client.GetObject(ctx, b.name, b.prefix+name, minio.GetObjectOptions{})
	if err == nil && info.Size < 0 {
		_ = body.Close()
		err = &limitError{"the server does not name the size", "check the URL of the destination"}
	}
	if err != nil {
		defer op.end()
		return nil, 0, b.failure(ctx, op, "read", name, err)
	}
	explain := func(err error) error { return b.failure(ctx, op, "read", name, err) }
	return &download{body, op, explain}, info.Size, nil
}

// download is the content of a file.
type download struct {
	io.ReadCloser
	op      *operation
	explain func(error) error
}

// Read returns bytes of the file.
func (d *download) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = d.explain(err)
	}
	return n, err
}

// Close ends the operation.
func (d *download) Close() error {
	defer d.op.end()
	return d.ReadCloser.Close()
}

// List returns the files of backups, and nothing below another prefix.
func (b *bucket) List(ctx context.Context) ([]Entry, error) {
	ctx, op := begin(ctx, b.idle)
	defer op.end()
	var found listing
	if err := b.walk(ctx, found.add); err != nil {
		return nil, b.failure(ctx, op, "list", "", err)
	}
	return found.sorted(), nil
}

// Delete removes an object, or hides it behind a delete marker if the bucket has versions.
func (b *bucket) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	ctx, op := begin(ctx, b.idle)
	defer op.end()
	err := b.client.RemoveObject(ctx, b.name, b.prefix+name, minio.RemoveObjectOptions{})
	if err == nil || minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return nil
	}
	return b.failure(ctx, op, verbDelete, name, err)
}

// walk calls visit for the names in the bucket, until it returns an error.
func (b *bucket) walk(ctx context.Context, visit func(Entry) error) error {
	for object := range b.client.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{Prefix: b.prefix, MaxKeys: maxPage}) {
		if object.Err != nil {
			return object.Err
		}
		name, below := strings.CutPrefix(object.Key, b.prefix)
		if !below {
			continue
		}
		if err := visit(Entry{Name: name, Size: object.Size, ModTime: object.LastModified}); err != nil {
			return err
		}
	}
	// The iterator ends without an error when its context does.
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
