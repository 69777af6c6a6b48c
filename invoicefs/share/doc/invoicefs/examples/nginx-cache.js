// Computes what nginx-cache.conf uses instead of an API token in the keys of its cache and in its
// log: nginx writes every key, as it is, into the files of the cache.
import crypto from 'crypto';

// Returns the SHA-256 of the Authorization header in hexadecimal, or nothing without that header, or
// if it is not ASCII: njs replaces such bytes, so different tokens would have the same digest.
function credential(request) {
    const authorization = request.variables.http_authorization;
    if (!authorization || !/^[\x20-\x7e]+$/.test(authorization)) {
        return '';
    }
    return crypto.createHash('sha256').update(authorization).digest('hex');
}

export default { credential };
