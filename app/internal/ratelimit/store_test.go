package ratelimit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/securenotes/securenotes/app/config"
)

// TestRedisWithoutTLSIsRefused: and no error contains the URI.
func TestRedisWithoutTLSIsRefused(t *testing.T) {
	for _, uri := range []string{"", "redis://:hunter2@127.0.0.1:6379", "rediss://:hunter2@127.0.0.1:port", "unix:///run/redis.sock", "rediss://:hunter2@127.0.0.1/" + strings.Repeat("x", 5000)} {
		file := filepath.Join(t.TempDir(), "uri")
		if err := os.WriteFile(file, []byte(uri), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := OpenStore(config.RateLimits{Redis: &config.Redis{URIFile: file}}, "d1", nil)
		if err == nil || strings.Contains(err.Error(), "hunter2") || errors.Is(err, ErrUnavailable) {
			t.Errorf("%q: %v", uri, err)
		}
	}
}

func TestRedisCertificateIsVerified(t *testing.T) {
	file := filepath.Join(t.TempDir(), "uri")
	if err := os.WriteFile(file, []byte("rediss://redis.example.com:6379/0?skip_verify=true"), 0o600); err != nil {
		t.Fatal(err)
	}
	settings, err := redisSettings(config.Redis{URIFile: file})
	if err != nil {
		t.Fatal(err)
	}
	if c := settings.TLSConfig; c.InsecureSkipVerify || c.ServerName != "redis.example.com" {
		t.Errorf("skip %v, name %q", c.InsecureSkipVerify, c.ServerName)
	}
}
