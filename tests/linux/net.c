// That programs learn of the network what netlink(7), rtnetlink(7) and netdevice(7) promise, and that a container changes nothing of it.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/errqueue.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

struct question {
    struct nlmsghdr head;
    union {
        struct ifinfomsg link;
        struct ifaddrmsg address;
        struct rtmsg route;
    };
    char more[64];
};

static int netlink(void) {
    int socket_of_routes = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    CHECK(socket_of_routes >= 0);
    return socket_of_routes;
}

static void ask(int link, int type, int flags, int family) {
    struct question question = {.head = {NLMSG_LENGTH(sizeof(struct ifinfomsg)), type, NLM_F_REQUEST | flags, 7, 0}};
    question.link.ifi_family = family;
    CHECK(send(link, &question, question.head.nlmsg_len, 0) == (ssize_t)question.head.nlmsg_len);
}

// The error that answers, which is 0 for what was done.
static int error_told(int link) {
    char answer[4096] = {0};
    ssize_t length = recv(link, answer, sizeof answer, 0);
    struct nlmsghdr *head = (struct nlmsghdr *)answer;
    CHECK(length >= (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)) && head->nlmsg_type == NLMSG_ERROR);
    CHECK(head->nlmsg_seq == 7);
    return ((struct nlmsgerr *)NLMSG_DATA(head))->error;
}

// How many messages of a type a dump has.
static int dumped(int link, int type) {
    int count = 0;
    for (;;) {
        char answer[16384];
        ssize_t length = recv(link, answer, sizeof answer, 0);
        CHECK(length > 0);
        if (length <= 0)
            return -1;
        size_t left = length;
        for (struct nlmsghdr *head = (struct nlmsghdr *)answer; NLMSG_OK(head, left); head = NLMSG_NEXT(head, left)) {
            CHECK(head->nlmsg_flags & NLM_F_MULTI);
            CHECK(head->nlmsg_seq == 7);
            if (head->nlmsg_type == NLMSG_DONE)
                return count;
            CHECK(head->nlmsg_type == type);
            count++;
        }
    }
}

static void a_netlink_socket_has_a_number_of_its_own(void) {
    REFUSED(socket(AF_NETLINK, SOCK_STREAM, NETLINK_ROUTE), ESOCKTNOSUPPORT);
    REFUSED(socket(AF_NETLINK, SOCK_RAW, 99), EPROTONOSUPPORT);
    REFUSED(socket(AF_NETLINK, SOCK_RAW, -1), EPROTONOSUPPORT);
    int one = netlink(), other = netlink();
    struct sockaddr_nl name = {.nl_family = AF_NETLINK};
    socklen_t length = sizeof name;
    CHECK(getsockname(one, (struct sockaddr *)&name, &length) == 0 && length == sizeof name && name.nl_pid == 0);
    CHECK(bind(one, (struct sockaddr *)&name, sizeof name) == 0);
    CHECK(getsockname(one, (struct sockaddr *)&name, &length) == 0 && name.nl_pid == (unsigned)getpid());
    REFUSED(bind(other, (struct sockaddr *)&name, sizeof name), EADDRINUSE);
    REFUSED(bind(one, (struct sockaddr *)&name, sizeof name - 1), EINVAL);
    name.nl_pid++;
    REFUSED(bind(one, (struct sockaddr *)&name, sizeof name), EINVAL);
    name.nl_family = AF_INET;
    REFUSED(bind(other, (struct sockaddr *)&name, sizeof name), EINVAL);
    name = (struct sockaddr_nl){.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    CHECK(bind(other, (struct sockaddr *)&name, sizeof name) == 0);
    CHECK(getsockname(other, (struct sockaddr *)&name, &length) == 0);
    CHECK(name.nl_pid != 0 && name.nl_pid != (unsigned)getpid() && name.nl_groups == RTMGRP_LINK);
    CHECK(getpeername(other, (struct sockaddr *)&name, &length) == 0 && name.nl_pid == 0);
    int type = 0;
    length = sizeof type;
    CHECK(getsockopt(one, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_RAW);
    CHECK(getsockopt(one, SOL_SOCKET, SO_DOMAIN, &type, &length) == 0 && type == AF_NETLINK);
    int on = 1, group = RTNLGRP_LINK, none = 0;
    CHECK(setsockopt(one, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on) == 0);
    CHECK(setsockopt(one, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) == 0);
    REFUSED(setsockopt(one, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &none, sizeof none), EINVAL);
    REFUSED(setsockopt(one, SOL_NETLINK, 99, &on, sizeof on), ENOPROTOOPT);
    REFUSED(listen(one, 1), EOPNOTSUPP);
    REFUSED(accept(one, NULL, NULL), EOPNOTSUPP);
    REFUSED(shutdown(one, SHUT_WR), EOPNOTSUPP);
    REFUSED(send(one, "", 1, MSG_OOB), EOPNOTSUPP);
    REFUSED(recv(one, &type, sizeof type, MSG_DONTWAIT), EAGAIN);
    close(one);
    close(other);
}

static void links_addresses_and_routes_are_told(void) {
    int link = netlink();
    ask(link, RTM_GETLINK, NLM_F_DUMP, AF_UNSPEC);
    struct pollfd ready = {.fd = link, .events = POLLIN | POLLOUT};
    CHECK(poll(&ready, 1, 0) == 1 && ready.revents == (POLLIN | POLLOUT));
    char little[20];
    struct iovec piece = {little, sizeof little};
    struct sockaddr_nl from = {0};
    struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &piece, .msg_iovlen = 1};
    ssize_t whole = recvmsg(link, &message, MSG_PEEK | MSG_TRUNC);
    CHECK(whole > 200 && message.msg_flags & MSG_TRUNC && message.msg_namelen == sizeof from);
    CHECK(from.nl_family == AF_NETLINK && from.nl_pid == 0);
    CHECK(recv(link, little, sizeof little, MSG_PEEK) == sizeof little);
    CHECK(dumped(link, RTM_NEWLINK) >= 1);
    ask(link, RTM_GETADDR, NLM_F_DUMP, AF_INET);
    CHECK(dumped(link, RTM_NEWADDR) >= 1);
    ask(link, RTM_GETROUTE, NLM_F_DUMP, AF_UNSPEC);
    CHECK(dumped(link, RTM_NEWROUTE) >= 3);
    ask(link, RTM_GETNEIGH, NLM_F_DUMP, AF_INET6);
    CHECK(dumped(link, RTM_NEWNEIGH) >= 0);
    ask(link, RTM_GETRULE, NLM_F_DUMP, AF_INET);
    CHECK(dumped(link, RTM_NEWRULE) >= 3);
    close(link);
}

static void what_cannot_be_is_answered_by_an_error(void) {
    int link = netlink();
    ask(link, RTM_GETLINK, 0, AF_UNSPEC);
    CHECK(error_told(link) == -EINVAL);
    struct question question = {.head = {NLMSG_LENGTH(sizeof question.link), RTM_GETLINK, NLM_F_REQUEST, 7, 0}};
    question.link.ifi_index = 999;
    CHECK(send(link, &question, question.head.nlmsg_len, 0) > 0 && error_told(link) == -ENODEV);
    question.head.nlmsg_flags |= NLM_F_ACK;
    question.link.ifi_index = 1;
    char answer[4096];
    CHECK(write(link, &question, question.head.nlmsg_len) > 0 && recv(link, answer, sizeof answer, 0) > 100);
    CHECK(error_told(link) == 0);
    ask(link, 4000, 0, AF_UNSPEC);
    CHECK(error_told(link) == -EOPNOTSUPP);
    // No request: nothing is done, and that is acknowledged if it is asked for.
    question.head.nlmsg_flags = NLM_F_ACK;
    CHECK(send(link, &question, question.head.nlmsg_len, 0) > 0 && error_told(link) == 0);
    // What is cut off is passed over.
    CHECK(send(link, &question, 10, 0) == 10 && recv(link, answer, sizeof answer, MSG_DONTWAIT) == -1);
    CHECK(errno == EAGAIN);
    REFUSED(send(link, question.more, (size_t)1 << 30, 0), EMSGSIZE);
    close(link);
}

static void interfaces_have_names_and_addresses(void) {
    CHECK(if_nametoindex("lo") == 1);
    char name[IF_NAMESIZE] = "";
    CHECK(if_indextoname(1, name) != NULL && strcmp(name, "lo") == 0);
    CHECK(if_nametoindex("nothing") == 0 && errno == ENODEV);
    struct if_nameindex *all = if_nameindex();
    CHECK(all != NULL && all[0].if_index == 1 && strcmp(all[0].if_name, "lo") == 0);
    if_freenameindex(all);
    struct ifaddrs *addresses = NULL;
    int loops = 0, links = 0, others = 0;
    CHECK(getifaddrs(&addresses) == 0);
    for (struct ifaddrs *held = addresses; held; held = held->ifa_next) {
        if (held->ifa_addr->sa_family == AF_PACKET) {
            struct sockaddr_ll *link = (struct sockaddr_ll *)held->ifa_addr;
            CHECK(link->sll_halen == 6 && held->ifa_flags & IFF_UP);
            links++;
        } else if (held->ifa_addr->sa_family == AF_INET) {
            unsigned ip = ntohl(((struct sockaddr_in *)held->ifa_addr)->sin_addr.s_addr);
            unsigned mask = ntohl(((struct sockaddr_in *)held->ifa_netmask)->sin_addr.s_addr);
            CHECK(held->ifa_flags & IFF_RUNNING);
            if (held->ifa_flags & IFF_LOOPBACK) {
                CHECK(ip == INADDR_LOOPBACK && mask == 0xff000000);
                loops++;
            } else {
                // As ioctl(2) tells it.
                struct ifreq request = {0};
                strcpy(request.ifr_name, held->ifa_name);
                int any = socket(AF_INET, SOCK_DGRAM, 0);
                CHECK(ioctl(any, SIOCGIFADDR, &request) == 0);
                CHECK(ntohl(((struct sockaddr_in *)&request.ifr_addr)->sin_addr.s_addr) == ip);
                CHECK(ioctl(any, SIOCGIFNETMASK, &request) == 0);
                CHECK(ntohl(((struct sockaddr_in *)&request.ifr_netmask)->sin_addr.s_addr) == mask);
                CHECK(ioctl(any, SIOCGIFHWADDR, &request) == 0 && request.ifr_hwaddr.sa_family == 1);
                close(any);
                others++;
            }
        }
    }
    freeifaddrs(addresses);
    // By the time that an answer is there, the network has given the wire its address.
    CHECK(loops == 1 && links >= 1 && others == links - 1);
    struct ifreq list[8];
    struct ifconf configuration = {.ifc_len = sizeof list, .ifc_req = list};
    int any = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK(ioctl(any, SIOCGIFCONF, &configuration) == 0);
    CHECK(configuration.ifc_len == (int)sizeof(struct ifreq) * (loops + others) && strcmp(list[0].ifr_name, "lo") == 0);
    struct ifreq none = {.ifr_name = "nothing"};
    REFUSED(ioctl(any, SIOCGIFFLAGS, &none), ENODEV);
    close(any);
}

static void groups_are_joined_once_and_are_a_sockets_own(void) {
    int one = socket(AF_INET, SOCK_DGRAM, 0), six = socket(AF_INET6, SOCK_DGRAM, 0);
    struct ip_mreqn group = {.imr_multiaddr.s_addr = htonl(0xe0000105), .imr_ifindex = 1};
    REFUSED(setsockopt(one, IPPROTO_IP, IP_DROP_MEMBERSHIP, &group, sizeof group), EADDRNOTAVAIL);
    CHECK(setsockopt(one, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group) == 0);
    REFUSED(setsockopt(one, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group), EADDRINUSE);
    CHECK(setsockopt(one, IPPROTO_IP, IP_DROP_MEMBERSHIP, &group, sizeof group) == 0);
    group.imr_ifindex = 99;
    REFUSED(setsockopt(one, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group), ENODEV);
    group.imr_multiaddr.s_addr = htonl(INADDR_LOOPBACK);
    REFUSED(setsockopt(one, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group), EINVAL);
    struct group_req request = {.gr_interface = 1, .gr_group.ss_family = AF_INET6};
    inet_pton(AF_INET6, "ff02::5", &((struct sockaddr_in6 *)&request.gr_group)->sin6_addr);
    CHECK(setsockopt(six, IPPROTO_IPV6, MCAST_JOIN_GROUP, &request, sizeof request) == 0);
    CHECK(setsockopt(six, IPPROTO_IPV6, MCAST_LEAVE_GROUP, &request, sizeof request) == 0);
    REFUSED(setsockopt(six, IPPROTO_IPV6, MCAST_LEAVE_GROUP, &request, sizeof request), EADDRNOTAVAIL);
    close(one);
    close(six);
}

// What is told of a datagram that did not arrive: control data with room for an address behind the error.
struct failure {
    struct sock_extended_err error;
    struct sockaddr_in6 by;
};

static void who_wants_to_know_learns_what_did_not_arrive(void) {
    for (int version = 4; version <= 6; version += 2) {
        int is_v4 = version == 4, on = 1;
        int one = socket(is_v4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0);
        struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons(6800), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        struct sockaddr_in to_v4 = {.sin_family = AF_INET, .sin_port = htons(6800), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        struct sockaddr *address = is_v4 ? (struct sockaddr *)&to_v4 : (struct sockaddr *)&to;
        socklen_t length = is_v4 ? sizeof to_v4 : sizeof to;
        char bytes[16], control[256];
        struct iovec piece = {bytes, sizeof bytes};
        struct sockaddr_in6 name;
        struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_name = &name, .msg_control = control};
        // Who does not want to know is not told.
        CHECK(sendto(one, "lost", 4, 0, address, length) == 4);
        REFUSED(recvmsg(one, &message, MSG_ERRQUEUE), EAGAIN);
        int level = is_v4 ? IPPROTO_IP : IPPROTO_IPV6, option = is_v4 ? IP_RECVERR : IPV6_RECVERR;
        CHECK(setsockopt(one, level, option, &on, sizeof on) == 0);
        CHECK(sendto(one, "ABCDEF", 6, 0, address, length) == 6);
        struct pollfd ready = {.fd = one, .events = 0};
        CHECK(poll(&ready, 1, 1000) == 1 && ready.revents == POLLERR);
        message.msg_namelen = sizeof name;
        message.msg_controllen = sizeof control;
        CHECK(recvmsg(one, &message, MSG_ERRQUEUE) == 6 && memcmp(bytes, "ABCDEF", 6) == 0);
        CHECK(message.msg_flags == MSG_ERRQUEUE && message.msg_namelen == length && memcmp(&name, address, 8) == 0);
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        CHECK(head != NULL && head->cmsg_level == level && head->cmsg_type == option);
        if (head != NULL) {
            struct failure *failure = (struct failure *)CMSG_DATA(head);
            CHECK(failure->error.ee_errno == ECONNREFUSED && failure->by.sin6_family == address->sa_family);
            CHECK(failure->error.ee_origin == (is_v4 ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6));
            CHECK(failure->error.ee_type == (is_v4 ? 3 : 1) && failure->error.ee_code == (is_v4 ? 3 : 4));
        }
        REFUSED(recvmsg(one, &message, MSG_ERRQUEUE), EAGAIN);
        CHECK(poll(&ready, 1, 0) == 0);
        REFUSED(recv(one, bytes, sizeof bytes, MSG_DONTWAIT), EAGAIN);
        close(one);
    }
}

static void segments_are_as_long_as_the_way_lets_them(void) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = socket(AF_INET, SOCK_STREAM, 0), segment = 0;
    socklen_t length = sizeof segment;
    CHECK(getsockopt(one, IPPROTO_TCP, TCP_MAXSEG, &segment, &length) == 0 && segment == 536);
    segment = 20;
    REFUSED(setsockopt(one, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment), EINVAL);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    CHECK(listen(listener, 1) == 0 && getsockname(listener, (struct sockaddr *)&at, &size) == 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(connect(one, (struct sockaddr *)&at, sizeof at) == 0);
    CHECK(getsockopt(one, IPPROTO_TCP, TCP_MAXSEG, &segment, &length) == 0 && segment > 536);
    close(one);
    close(listener);
}

static void what_found_no_room_is_counted(void) {
    int in = socket(AF_INET, SOCK_DGRAM, 0), out = socket(AF_INET, SOCK_DGRAM, 0), on = 1, room = 4096;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    CHECK(bind(in, (struct sockaddr *)&at, length) == 0 && getsockname(in, (struct sockaddr *)&at, &length) == 0);
    CHECK(setsockopt(in, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on) == 0);
    CHECK(setsockopt(in, SOL_SOCKET, SO_RCVBUF, &room, sizeof room) == 0);
    static char bytes[2048];
    unsigned lost = 0;
    for (int round = 0; round < 3; round++) {
        unsigned sent = 10, received = 0;
        for (unsigned count = 0; count < sent; count++)
            CHECK(sendto(out, bytes, sizeof bytes, 0, (struct sockaddr *)&at, length) == sizeof bytes);
        for (;;) {
            char control[64];
            struct iovec piece = {bytes, sizeof bytes};
            struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control};
            message.msg_controllen = sizeof control;
            if (recvmsg(in, &message, MSG_DONTWAIT) != sizeof bytes)
                break;
            // As many as were lost before it came.
            struct cmsghdr *head = CMSG_FIRSTHDR(&message);
            CHECK((head != NULL) == (lost > 0));
            CHECK(head == NULL || (head->cmsg_type == SO_RXQ_OVFL && *(unsigned *)CMSG_DATA(head) == lost));
            received++;
        }
        CHECK(errno == EAGAIN && received > 0 && received < sent);
        lost += sent - received;
    }
    close(in);
    close(out);
}

// Not to be run outside a container: with more rights it would do what it asks for.
static void a_container_does_not_change_its_network(void) {
    int link = netlink();
    struct question question = {.head = {NLMSG_LENGTH(sizeof question.link), RTM_NEWLINK, NLM_F_REQUEST, 7, 0}};
    question.link.ifi_index = 1;
    CHECK(send(link, &question, question.head.nlmsg_len, 0) > 0 && error_told(link) == -EPERM);
    question.head.nlmsg_type = RTM_DELADDR;
    CHECK(send(link, &question, question.head.nlmsg_len, 0) > 0 && error_told(link) == -EPERM);
    struct sockaddr_nl other = {.nl_family = AF_NETLINK, .nl_pid = 1};
    REFUSED(sendto(link, &question, question.head.nlmsg_len, 0, (struct sockaddr *)&other, sizeof other), EPERM);
    REFUSED(connect(link, (struct sockaddr *)&other, sizeof other), EPERM);
    close(link);
    struct ifreq request = {.ifr_name = "lo"};
    int any = socket(AF_INET, SOCK_DGRAM, 0);
    REFUSED(ioctl(any, SIOCSIFFLAGS, &request), EPERM);
    REFUSED(ioctl(any, SIOCSIFADDR, &request), EPERM);
    close(any);
}

const struct test net_tests[] = {
    TEST(a_netlink_socket_has_a_number_of_its_own),
    TEST(links_addresses_and_routes_are_told),
    TEST(what_cannot_be_is_answered_by_an_error),
    TEST(interfaces_have_names_and_addresses),
    TEST(groups_are_joined_once_and_are_a_sockets_own),
    TEST(who_wants_to_know_learns_what_did_not_arrive),
    TEST(what_found_no_room_is_counted),
    TEST(segments_are_as_long_as_the_way_lets_them),
    TEST(a_container_does_not_change_its_network),
    END,
};
