package ratelimit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/ulule/limiter/v3"
	"github.com/ulule/limiter/v3/drivers/store/memory"
	redisstore "github.com/ulule/limiter/v3/drivers/store/redis"

	"github.com/securenotes/securenotes/app/config"
)

// ErrUnavailable means that Redis is unavailable. Nobody can log in until it is available again.
var ErrUnavailable = errors.New("the counter of failed logins is unavailable")

// maxURISize bounds the connection URI, in bytes.
const maxURISize = 4096

// OpenStore returns the store for the counts of a deployment: database, unless the configuration
// names another one. closeStore closes its connections.
func OpenStore(c config.RateLimits, deployment string, database limiter.Store) (store limiter.Store, closeStore func() error, err error) {
	switch {
	case c.Memory != nil:
		return memory.NewStore(), func() error { return nil }, nil
	case c.Redis != nil:
		return openRedis(*c.Redis, deployment)
	}
	return database, func() error { return nil }, nil
}

func openRedis(c config.Redis, deployment string) (limiter.Store, func() error, error) {
	settings, err := redisSettings(c)
	if err != nil {
		return nil, nil, err
	}
	// The Secrets with the URI and the CA may change, so they are read for each connection. Only
	// the number of the database stays as it was at the start.
	settings.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
		current, err := redisSettings(c)
		if err != nil {
			return nil, err
		}
		return redis.NewDialer(current)(ctx, network, current.Addr)
	}
	settings.CredentialsProviderContext = func(context.Context) (user, password string, err error) {
		current, err := redisSettings(c)
		if err != nil {
			return "", "", err
		}
		return current.Username, current.Password, nil
	}
	client := redis.NewClient(settings)
	store, err := redisstore.NewStoreWithOptions(client, limiter.StoreOptions{Prefix: "securenotes:" + deployment})
	if err != nil {
		_ = client.Close()
		return nil, nil, fmt.Errorf("Redis at %s: %w: %w", settings.Addr, ErrUnavailable, err)
	}
	return redisStore{store}, client.Close, nil
}

// redisSettings reads the URI. It requires TLS and verifies the server's name, even if the URI says
// otherwise, because the URI may contain a password.
func redisSettings(c config.Redis) (*redis.Options, error) {
	raw, err := os.ReadFile(c.URIFile)
	if err != nil {
		return nil, fmt.Errorf("read the Redis URI: %w", err)
	}
	uri := strings.TrimSpace(string(raw))
	if len(uri) > maxURISize || !strings.HasPrefix(uri, "rediss://") {
		return nil, fmt.Errorf("%s must contain a URI with TLS such as rediss://USER:PASSWORD@HOST:6379/0, of at most %d bytes", c.URIFile, maxURISize)
	}
	settings, err := redis.ParseURL(uri)
	if err != nil {
		// The error of the library may quote the URI.
		return nil, fmt.Errorf("%s does not contain a URI such as rediss://USER:PASSWORD@HOST:6379/0", c.URIFile)
	}
	verified := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: settings.TLSConfig.ServerName}
	if c.CAFile != "" {
		ca, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the CA file of Redis: %w", err)
		}
		verified.RootCAs = x509.NewCertPool()
		if !verified.RootCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("%s contains no PEM certificate", c.CAFile)
		}
	}
	settings.TLSConfig = verified
	settings.DialTimeout, settings.ReadTimeout, settings.WriteTimeout = 3*time.Second, 2*time.Second, 2*time.Second
	return settings, nil
}

// redisStore wraps every error in ErrUnavailable, so that the client is asked to retry.
type redisStore struct{ limiter.Store }

func unavailable(state limiter.Context, err error) (limiter.Context, error) {
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return state, err
}

// Get implements limiter.Store.
func (s redisStore) Get(ctx context.Context, key string, rate limiter.Rate) (limiter.Context, error) {
	return unavailable(s.Store.Get(ctx, key, rate))
}

// Peek implements limiter.Store.
func (s redisStore) Peek(ctx context.Context, key string, rate limiter.Rate) (limiter.Context, error) {
	return unavailable(s.Store.Peek(ctx, key, rate))
}

// Reset implements limiter.Store.
func (s redisStore) Reset(ctx context.Context, key string, rate limiter.Rate) (limiter.Context, error) {
	return unavailable(s.Store.Reset(ctx, key, rate))
}

// Increment implements limiter.Store.
func (s redisStore) Increment(ctx context.Context, key string, count int64, rate limiter.Rate) (limiter.Context, error) {
	return unavailable(s.Store.Increment(ctx, key, count, rate))
}
