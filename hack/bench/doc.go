// Package bench compares the service with its peers on the same machine and in the same run. It
// uses the real binary with TLS, a durable PostgreSQL and a real Vault. `make bench` prints the
// table. No test fails because of a time: machines differ, so compare the ratios.
package bench
