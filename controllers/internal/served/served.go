// Package served reads the validity and the names of the certificate that a pod of the API serves.
// The operator may not read Secrets, so it reads what clients see.
package served

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// timeout bounds the connection and the handshake.
const timeout = time.Second

// Certificate holds the fields of a certificate that clients check.
type Certificate struct {
	NotBefore, NotAfter time.Time
	DNSNames            []string
}

// Of returns the certificate that a pod serves. It sends only a TLS handshake. Errors: the pod has
// no address of its own, or does not answer.
func Of(ctx context.Context, pod *corev1.Pod) (Certificate, error) {
	address, ok := operand.PodAddress(pod)
	if !ok {
		return Certificate{}, fmt.Errorf("pod %s has no address of its own", pod.Name)
	}
	return at(ctx, net.JoinHostPort(address, strconv.Itoa(config.PortHTTPS)))
}

func at(ctx context.Context, address string) (Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS13,
		//nolint:gosec // the certificate is only inspected, and an expired one must be readable
		InsecureSkipVerify: true,
	}}
	connection, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return Certificate{}, err
	}
	defer connection.Close()
	client, ok := connection.(*tls.Conn)
	if !ok || len(client.ConnectionState().PeerCertificates) == 0 {
		return Certificate{}, errors.New("the pod presents no certificate")
	}
	certificate := client.ConnectionState().PeerCertificates[0]
	return Certificate{certificate.NotBefore, certificate.NotAfter, certificate.DNSNames}, nil
}
