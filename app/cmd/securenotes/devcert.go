package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/securenotes/securenotes/app/config"
)

// devCertificateLife is how long a development certificate is valid. It is renewed a day earlier.
const devCertificateLife = 30 * 24 * time.Hour

// ensureDevCertificate writes ca.crt, tls.crt and tls.key for localhost into dir, unless they exist
// and are valid. The CA's key is never stored, so that it can sign nothing else.
func ensureDevCertificate(dir string, now time.Time) error {
	if devCertificateValid(dir, now) {
		return nil
	}
	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: "SecureNotes development CA"},
		IsCA:    true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	caKey, err := sign(ca, ca, nil, now)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "localhost"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	leafKey, err := sign(leaf, ca, caKey, now)
	if err != nil {
		return err
	}
	rawKey, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		return fmt.Errorf("development certificate: %w", err)
	}
	// The certificate is written last: if it exists, so do the others.
	for _, f := range []struct {
		name, kind string
		raw        []byte
	}{
		{config.CAFile, "CERTIFICATE", ca.Raw}, {config.KeyFile, "PRIVATE KEY", rawKey}, {config.CertFile, "CERTIFICATE", leaf.Raw},
	} {
		if err := writeFile(filepath.Join(dir, f.name), pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.raw})); err != nil {
			return fmt.Errorf("development certificate: %w", err)
		}
	}
	return nil
}

// sign generates a key for the template and signs the template with the parent's key. If parentKey
// is nil, the certificate is self-signed.
func sign(template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey, now time.Time) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("development certificate: %w", err)
	}
	if parentKey == nil {
		parentKey = key
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126)); err != nil {
		return nil, fmt.Errorf("development certificate: %w", err)
	}
	template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.Add(devCertificateLife)
	template.Raw, err = x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, fmt.Errorf("development certificate: %w", err)
	}
	return key, nil
}

func devCertificateValid(dir string, now time.Time) bool {
	parse := func(name string) *x509.Certificate {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil
		}
		block, _ := pem.Decode(raw)
		if block == nil {
			return nil
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil
		}
		return certificate
	}
	ca, leaf := parse(config.CAFile), parse(config.CertFile)
	if ca == nil || leaf == nil || leaf.CheckSignatureFrom(ca) != nil {
		return false
	}
	return now.After(leaf.NotBefore) && now.Before(leaf.NotAfter.Add(-24*time.Hour))
}
