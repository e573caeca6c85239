#pragma once

/* What the command line, aiosd and aios-pass agree on about signing in. */

/* Argon2id as passwords are hashed here (crypto_pwhash's limits), and how every such hash begins. Nothing weaker, nor
 * anything that costs more, is looked at. */
enum { WIRE_PASS_OPS = 3, WIRE_PASS_MEM = 64 << 20, WIRE_PASS_HASH_MAX = 128 };
#define WIRE_PASS_PREFIX "$argon2id$v=19$m=65536,t=3,p=1$"
enum { WIRE_PASSWORD_MIN = 12, WIRE_PASSWORD_MAX = 1024 }; /* bytes */

/* TOTP: "sha1:" or "sha256:" and the secret in base32, six digits, steps of 30 seconds. */
enum { WIRE_TOTP_STEP = 30, WIRE_TOTP_DIGITS = 6, WIRE_TOTP_SECRET_MAX = 64 };

/* Their names in the vault, and the one host and action that they are released for. */
#define WIRE_PASS_SECRET_PASSWORD "sign-in/password"
#define WIRE_PASS_SECRET_TOTP "sign-in/totp"
#define WIRE_PASS_HOST "aios-pass"
#define WIRE_PASS_ACTION "pass.check"
