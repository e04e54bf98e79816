#!/bin/sh
# Makes what compose.yaml takes from secrets/, once, and leaves alone what is there:
#
#   sudo sh compose/setup.sh
#
# Root gives the files to those who read them inside the containers: weir is 65532,
# ClickHouse 101. Keep a copy of privacy.key where only its keepers read it.
set -eu
umask 077
cd "$(dirname "$0")/.."
weir=65532
clickhouse=101
[ -d secrets ] || mkdir -m 0711 secrets

if [ ! -e secrets/privacy.key ]; then
	openssl rand -hex 32 > secrets/privacy.key
fi
if [ ! -e secrets/clickhouse.password ]; then
	openssl rand -hex 24 > secrets/clickhouse.password
	hash=$(tr -d '\n' < secrets/clickhouse.password | openssl dgst -sha256 -r | cut -d' ' -f1)
	cat > secrets/clickhouse-users.xml <<-XML
	<clickhouse>
	  <users>
	    <default remove="remove"/>
	    <weir>
	      <password_sha256_hex>$hash</password_sha256_hex>
	      <networks><ip>::/0</ip></networks>
	      <profile>default</profile>
	      <quota>default</quota>
	    </weir>
	  </users>
	</clickhouse>
	XML
fi
if [ ! -e secrets/clickhouse.crt ]; then
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=clickhouse \
		-addext subjectAltName=DNS:clickhouse -keyout secrets/clickhouse.pem -out secrets/clickhouse.crt 2>/dev/null
fi
chmod 0400 secrets/*
chmod 0444 secrets/clickhouse.crt
chown "$weir:$weir" secrets/privacy.key secrets/clickhouse.password
chown "$clickhouse:$clickhouse" secrets/clickhouse-users.xml secrets/clickhouse.pem
